"""A statement that is compiled once for each kind of database, and then runs with nothing but new values.

SQLAlchemy makes a result, a context and some statements' text anew each time, which takes ten times as long as what
the database does for a row or two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

T = TypeVar("T")
#: By the names of a statement's parameters.
Values = Mapping[str, Any]
_fetchall: Callable[[Any], Sequence[tuple[Any, ...]]] = methodcaller("fetchall")
_rowcount: Callable[[Any], int] = attrgetter("rowcount")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as a driver takes it."""

    text: str
    #: The order of its values, where the driver takes them by place and not by name.
    order: tuple[str, ...] | None
    #: What a column's type makes of a value before the driver gets it, such as JSON a text.
    processors: tuple[tuple[str, Callable[[Any], Any]], ...]

    def given(self, values: Values) -> Any:
        """The values as the driver takes them."""
        if self.processors:
            values = {**values, **{name: process(values[name]) for name, process in self.processors}}
        return values if self.order is None else [values[name] for name in self.order]


class Prepared:
    """One statement; its values are those of its parameters, all of which are named.

    All that is here raises SQLAlchemy's DBAPIError.
    """

    def __init__(self, compiled_for: Callable[[Dialect], SQLCompiler]) -> None:
        """``compiled_for`` gives the statement for a kind of database."""
        self._compiled_for = compiled_for
        self._compiled: dict[str, _Compiled] = {}

    def read(self, connection: Connection, values: Values) -> Sequence[tuple[Any, ...]]:
        """All rows of a SELECT, with values as the driver gives them."""
        compiled = self._for(connection.dialect)
        return _run(connection, compiled.text, "execute", compiled.given(values), _fetchall)

    def execute(self, connection: Connection, values: Values) -> int:
        """Execute it in the connection's transaction; returns how many rows that wrote."""
        compiled = self._for(connection.dialect)
        return _run(connection, compiled.text, "execute", compiled.given(values), _rowcount)

    def execute_all(self, connection: Connection, values: Sequence[Values]) -> int:
        """Execute it once for each of ``values``; returns how many rows that wrote in all."""
        compiled = self._for(connection.dialect)
        return _run(connection, compiled.text, "executemany", [compiled.given(one) for one in values], _rowcount)

    def _for(self, dialect: Dialect) -> _Compiled:
        found = self._compiled.get(dialect.name)
        if found is None:
            made = self._compiled_for(dialect)
            types = {name: one.type.dialect_impl(dialect) for name, one in made.binds.items()}
            processors = [(name, one.bind_processor(dialect)) for name, one in types.items()]
            found = self._compiled[dialect.name] = _Compiled(
                str(made),
                tuple(made.positiontup or ()) if made.positional else None,
                tuple((name, process) for name, process in processors if process is not None),
            )
        return found


def prepared(statement: Executable) -> Prepared:
    """A statement whose parameters are ``bindparam``s."""
    return Prepared(lambda dialect: _compile(statement, dialect))


@lru_cache
def insertion(table: Table, columns: tuple[str, ...]) -> Prepared:
    """An INSERT of one row that writes nothing where its key, or another of its unique values, is there already."""

    def compiled_for(dialect: Dialect) -> SQLCompiler:
        insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        # Inline: nobody wants to know the number that the database gives the row.
        return _compile(insert(table).inline().on_conflict_do_nothing(), dialect, columns)

    return Prepared(compiled_for)


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert ``row``; False where its key, or another of its unique values, is there already."""
    return insertion(table, tuple(row)).execute(connection, row) == 1


def _compile(statement: Executable, dialect: Dialect, columns: Sequence[str] | None = None) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect, column_keys=columns)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - for the type checker
    return compiled


def _run(connection: Connection, text: str, method: str, given: Any, finish: Callable[[Any], T]) -> T:
    cursor: Any = connection.connection.cursor()
    try:
        getattr(cursor, method)(text, given)
        return finish(cursor)
    except connection.dialect.loaded_dbapi.Error as error:
        is_lost = connection.dialect.is_disconnect(error, connection.connection.driver_connection, cursor)
        if is_lost:
            # So that nobody gets it from the pool again.
            connection.invalidate(error)
        raise DBAPIError.instance(
            text, None, error, connection.dialect.loaded_dbapi.Error,
            hide_parameters=True, connection_invalidated=is_lost, dialect=connection.dialect,
        ) from error  # fmt: skip
    finally:
        cursor.close()
