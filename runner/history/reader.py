"""Reads a database by its own driver: a command that only looks something up has not the time to import SQLAlchemy."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runner.errors import StoreAway
from runner.history.records import Read
from runner.store.revision import REVISION

if TYPE_CHECKING:
    from sqlalchemy import TextClause

#: Seconds to wait for a lock that somebody else holds, and for a server to answer.
PATIENCE = 5
_PARAMETER = re.compile(r":([a-z]+)")


@contextmanager
def reading(address: str, folder: Path) -> Iterator[Read | None]:
    """A database to read from, as ``store.url`` says; None where nothing was kept in it yet.

    A schema of an older version is brought up to date. Raises StoreAway where it does not answer for now, and
    StoreError where it cannot be used.
    """
    is_file = address.startswith("sqlite:")
    file = folder / address.removeprefix("sqlite:///")
    if is_file and not file.exists():
        yield None
        return
    with ExitStack() as stack:
        try:
            read = _sqlite(file, stack) if is_file else _postgresql(address, stack)
            revision = _revision(read)
        except StoreAway:
            # SQLAlchemy's way finds out what is wrong, and whether it will pass.
            revision = "unknown"
        if revision not in (None, REVISION):
            read = _by_sqlalchemy(address, folder, stack)
        yield None if revision is None else read


def statement_of(sql: str, parameters: Mapping[str, Any]) -> TextClause:
    """A SELECT of ``runner.history.records`` as SQLAlchemy wants it."""
    from sqlalchemy import text

    return text(sql).bindparams(**parameters)


def _sqlite(file: Path, stack: ExitStack) -> Read:
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", timeout=PATIENCE, uri=True)
    except sqlite3.Error as error:
        raise _away(error) from None
    stack.callback(connection.close)

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _away(error) from None

    return read


def _postgresql(address: str, stack: ExitStack) -> Read:
    import psycopg

    try:
        connection = psycopg.connect(address, connect_timeout=PATIENCE, autocommit=True)
    except psycopg.Error as error:
        raise _away(error) from None
    stack.callback(connection.close)

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return connection.execute(_PARAMETER.sub(r"%(\1)s", sql).encode(), parameters).fetchall()
        except psycopg.Error as error:
            raise _away(error) from None

    return read


def _by_sqlalchemy(address: str, folder: Path, stack: ExitStack) -> Read:
    from sqlalchemy.exc import SQLAlchemyError

    from runner.store.database import open_database
    from runner.store.database import reading as for_reading

    engine = open_database(address, folder)
    stack.callback(engine.dispose)
    readers = for_reading(engine)

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            with readers.connect() as connection:
                return connection.execute(statement_of(sql, parameters)).all()
        except SQLAlchemyError as error:
            raise _away(error) from None

    return read


def _revision(read: Read) -> str | None:
    try:
        rows = read("SELECT version_num FROM alembic_version", {})
    except StoreAway as error:
        # The words of SQLite and of PostgreSQL for a table that is not there.
        if "no such table" in str(error) or 'relation "alembic_version"' in str(error):
            return None
        raise
    return str(rows[0][0]) if rows else None


def _away(error: Exception) -> StoreAway:
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return StoreAway(f"the database is away: {words[0] if words else type(error).__name__}")
