"""Statements that are compiled once per database dialect and executed many times with different values.

For each execution, SQLAlchemy creates a context, a result and, for some statements, the SQL text. For one or two rows,
this work takes ten times as long as the database itself.
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
#: The values of a statement's parameters, by name.
Values = Mapping[str, Any]
_fetchall: Callable[[Any], Sequence[tuple[Any, ...]]] = methodcaller("fetchall")
_rowcount: Callable[[Any], int] = attrgetter("rowcount")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in the form that a database driver needs."""

    text: str
    #: The order of the values if the driver uses positional parameters, else None.
    order: tuple[str, ...] | None
    #: The functions that convert values for the driver, for example JSON values to text.
    processors: tuple[tuple[str, Callable[[Any], Any]], ...]

    def given(self, values: Values) -> Any:
        """Return the values in the form that the driver needs."""
        if self.processors:
            values = {**values, **{name: process(values[name]) for name, process in self.processors}}
        return values if self.order is None else [values[name] for name in self.order]


class Prepared:
    """A statement with named parameters, whose methods raise SQLAlchemy's DBAPIError."""

    def __init__(self, compiled_for: Callable[[Dialect], SQLCompiler]) -> None:
        """``compiled_for`` returns the compiled statement for a database dialect."""
        self._compiled_for = compiled_for
        self._compiled: dict[str, _Compiled] = {}

    def read(self, connection: Connection, values: Values) -> Sequence[tuple[Any, ...]]:
        """Return all rows of a SELECT, with unconverted values from the driver."""
        compiled = self._for(connection.dialect)
        return _run(connection, compiled.text, "execute", compiled.given(values), _fetchall)

    def execute(self, connection: Connection, values: Values) -> int:
        """Execute the statement in the connection's transaction. Return the number of rows written."""
        compiled = self._for(connection.dialect)
        return _run(connection, compiled.text, "execute", compiled.given(values), _rowcount)

    def execute_all(self, connection: Connection, values: Sequence[Values]) -> int:
        """Execute the statement once for each set of values. Return the number of rows written."""
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
    """Prepare a statement whose parameters are ``bindparam`` objects."""
    return Prepared(lambda dialect: _compile(statement, dialect))


@lru_cache
def insertion(table: Table, columns: tuple[str, ...]) -> Prepared:
    """Prepare an INSERT for one row, which has no effect if the key or another unique value already exists."""

    def compiled_for(dialect: Dialect) -> SQLCompiler:
        insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        # The INSERT is inline, because the row's generated number is not needed.
        return _compile(insert(table).inline().on_conflict_do_nothing(), dialect, columns)

    return Prepared(compiled_for)


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert ``row``. Return False if the row's key or another unique value already exists."""
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
            # The pool must not reuse the connection.
            connection.invalidate(error)
        raise DBAPIError.instance(
            text, None, error, connection.dialect.loaded_dbapi.Error,
            hide_parameters=True, connection_invalidated=is_lost, dialect=connection.dialect,
        ) from error  # fmt: skip
    finally:
        cursor.close()
