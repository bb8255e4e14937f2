"""Database access through the bare driver, because importing SQLAlchemy takes too long for a short command."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runner.errors import StoreUnreachable
from runner.history.records import Read
from runner.store import REVISION

if TYPE_CHECKING:
    from sqlalchemy import TextClause

#: Seconds to wait for another process's lock or for the server's answer.
PATIENCE = 5
_PARAMETER = re.compile(r":([a-z]+)")


@contextmanager
def reading(address: str, folder: Path) -> Iterator[Read | None]:
    """Open the database at ``address``. Yield None if the database has no schema yet.

    ``address`` has the form of ``store.url``. A schema of an earlier version is upgraded first. Raises StoreUnreachable
    if the database is unreachable, and StoreError if the database is unusable.
    """
    file = folder / address.removeprefix("sqlite:///")
    if address.startswith("sqlite:") and not file.exists():
        yield None
        return
    with ExitStack() as stack:
        revision: str | None = "unknown"
        with suppress(StoreUnreachable):  # the upgrade below raises this error with its cause
            read = _opened(address, file, stack)
            revision = _revision(read)
        if revision not in (None, REVISION):
            _upgrade(address, folder)
            read = _opened(address, file, stack)
            revision = _revision(read)
        yield None if revision is None else read


def statement_of(sql: str, parameters: Mapping[str, Any]) -> TextClause:
    """Convert a SELECT statement from ``runner.history.records`` to an SQLAlchemy statement."""
    from sqlalchemy import text

    return text(sql).bindparams(**parameters)


def _opened(address: str, file: Path, stack: ExitStack) -> Read:
    return _sqlite(file, stack) if address.startswith("sqlite:") else _postgresql(address, stack)


def _upgrade(address: str, folder: Path) -> None:
    # Imported here, because an upgrade is rarely necessary.
    from runner.store.database import open_database

    open_database(address, folder).dispose()


def _sqlite(file: Path, stack: ExitStack) -> Read:
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", timeout=PATIENCE, uri=True)
    except sqlite3.Error as error:
        raise _unreachable(error) from None
    stack.callback(connection.close)

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _unreachable(error) from None

    return read


def _postgresql(address: str, stack: ExitStack) -> Read:
    import psycopg

    try:
        connection = psycopg.connect(address, connect_timeout=PATIENCE, autocommit=True)
    except psycopg.Error as error:
        raise _unreachable(error) from None
    stack.callback(connection.close)

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            return connection.execute(_PARAMETER.sub(r"%(\1)s", sql).encode(), parameters).fetchall()
        except psycopg.Error as error:
            raise _unreachable(error) from None

    return read


def _revision(read: Read) -> str | None:
    try:
        rows = read("SELECT version_num FROM alembic_version", {})
    except StoreUnreachable as error:
        # The error messages of SQLite and PostgreSQL for a missing table.
        if "no such table" in str(error) or 'relation "alembic_version"' in str(error):
            return None
        raise
    return str(rows[0][0]) if rows else None


def _unreachable(error: Exception) -> StoreUnreachable:
    words = str(error).strip().splitlines()
    return StoreUnreachable(f"the database is unreachable: {words[0] if words else type(error).__name__}")
