"""Reads a database by its own driver: a command that only looks something up has not the time to import SQLAlchemy."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runner.errors import StoreAway
from runner.history.records import Read
from runner.store import REVISION

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
    file = folder / address.removeprefix("sqlite:///")
    if address.startswith("sqlite:") and not file.exists():
        yield None
        return
    with ExitStack() as stack:
        revision: str | None = "unknown"
        with suppress(StoreAway):  # the check of the schema finds out what is wrong, and whether it will pass
            read = _opened(address, file, stack)
            revision = _revision(read)
        if revision not in (None, REVISION):
            _bring_up_to_date(address, folder)
            read = _opened(address, file, stack)
            revision = _revision(read)
        yield None if revision is None else read


def statement_of(sql: str, parameters: Mapping[str, Any]) -> TextClause:
    """A SELECT of ``runner.history.records`` as SQLAlchemy wants it."""
    from sqlalchemy import text

    return text(sql).bindparams(**parameters)


def _opened(address: str, file: Path, stack: ExitStack) -> Read:
    return _sqlite(file, stack) if address.startswith("sqlite:") else _postgresql(address, stack)


def _bring_up_to_date(address: str, folder: Path) -> None:
    # Imported only where the schema is not the one of this version.
    from runner.store.database import open_database

    open_database(address, folder).dispose()


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
    words = str(error).strip().splitlines()
    return StoreAway(f"the database is away: {words[0] if words else type(error).__name__}")
