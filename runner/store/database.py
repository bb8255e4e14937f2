"""The connection to a database: opening, schema upgrades, and the classification of errors."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError, TimeoutError

from runner.errors import StoreError, StoreUnreachable
from runner.store import REVISION

#: Seconds to wait for another process's lock and for a connection to the server.
LOCK_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5
#: Seconds after which a connection with unacknowledged data is closed (TCP_USER_TIMEOUT, tcp(7)).
NETWORK_TIMEOUT = 30.0
#: The number of threads in a process that can read a SQLite file at the same time. No process has more handlers than
#: this number.
MOST_READERS = 64
#: The option that marks a connection for single SELECTs, which neither acquire locks nor wait for locks.
_READS = "runner_reads"
#: The SQLSTATE prefixes of temporary errors: connection failures, deadlocks and serialization failures, insufficient
#: resources, shutdowns, unavailable locks, a temporarily read-only server, and system errors.
_PASSING = ("08", "40", "53", "57P0", "55P03", "25006", "58")
#: The key of the PostgreSQL advisory lock for migrations.
_MIGRATION_LOCK = 0x0FA57C03


def open_database(address: str, folder: Path) -> Engine:
    """Open a database and upgrade its schema. The path of a SQLite file is relative to ``folder``.

    Raises StoreUnreachable if the database is unreachable, and StoreError if it cannot be used.
    """
    url = location(address, folder)
    with explained(url):
        if url.get_backend_name() == "sqlite":
            path = Path(str(url.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            # The database contains customer data, so only the owner may read the file. SQLite gives the same
            # permissions to its additional files.
            path.touch(0o600)
        engine = _engine(url)
        _upgrade(engine)
        return engine


def reading(engine: Engine) -> Engine:
    """Return an engine for single SELECTs on the same database. Each SELECT is one transaction and one round trip."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READS: True})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def location(address: str, folder: Path) -> URL:
    """Return the URL of a database with the driver that FastCommerce uses."""
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(folder / str(url.database)))
    return url.set(drivername="postgresql+psycopg")


def is_passing(error: BaseException) -> bool:
    """Return True for a temporary error that the statement did not cause, such as a lost connection or a full disk."""
    if isinstance(error, TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    # The lowest byte of SQLite's result code is the primary code (SQLite: "Result and Error Codes"). An SQLSTATE starts
    # with a class (PostgreSQL: "PostgreSQL Error Codes"). Checking for OperationalError is not enough, because the
    # drivers also raise it for incorrect statements.
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return isinstance(error, OperationalError) and code & 0xFF != sqlite3.SQLITE_ERROR
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING)
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_timeout(error: BaseException) -> bool:
    """Return True if PostgreSQL cancelled a slow statement. The cause may be a lock or the statement itself."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "57014"


def reason_of(error: BaseException) -> str:
    """Return the first line of a database error. The SQL statement is omitted, because its values may be secret."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return words[0] if words else type(error).__name__


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        arguments = {"timeout": LOCK_TIMEOUT, "check_same_thread": False}
        engine = create_engine(url, hide_parameters=True, max_overflow=MOST_READERS, connect_args=arguments)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Because of pool_pre_ping, the pool replaces a connection that the server has closed.
    arguments = {"connect_timeout": CONNECT_TIMEOUT, "tcp_user_timeout": round(NETWORK_TIMEOUT * 1000)}
    return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=arguments)


def _set_up_sqlite(connection: Any, _: object) -> None:
    # A listener starts each transaction, because the driver would start one only before the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    # The value FULL makes committed data survive a power failure (SQLite: "PRAGMA synchronous").
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Turn on the write-ahead log, a setting that SQLite stores in the file."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # If another process turns on the log at the same time, the statement fails immediately instead of waiting
            # (SQLite: "Write-Ahead Logging", section on SQLITE_BUSY in WAL mode).
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READS):
        # A transaction that starts with a read fails at its first write if another transaction has the lock.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(engine: Engine) -> None:
    found = _revision(engine)
    if found == REVISION:
        return
    # Keep Alembic's progress messages and its list of plugins out of the log.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Alembic is imported here, because the schema is up to date at nearly every start. The import precedes the lock, so
    # that other processes do not wait for the import.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    with migrating(engine) as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        found = _revision_on(connection)
        known = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
        if found is not None and found not in known:
            raise StoreError(
                f"store.url: schema {found} belongs to a newer version of FastCommerce; allowed: schemas up to"
                f" {REVISION}; run the newer version or use another database"
            )
        command.upgrade(config, "head")


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """Wait until no other process is migrating the database, then open a transaction.

    An exception rolls back the transaction.
    """
    if engine.dialect.name == "sqlite":
        lock = os.open(f"{engine.url.database}.migration", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.begin() as connection:
                yield connection
        finally:
            os.close(lock)
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
        yield connection


def _revision(engine: Engine) -> str | None:
    with reading(engine).connect() as connection:
        return _revision_on(connection)


def _revision_on(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Convert database errors to StoreUnreachable or StoreError."""
    # The error message shows the URL as in config.yaml, without the driver.
    shown = url.set(drivername=url.get_backend_name())
    where = f"store.url: {shown.render_as_string(hide_password=True)}"
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        reason = reason_of(error)
        # SQLite reports "unable to open" or "readonly" if a folder or a permission is missing.
        is_hopeless = isinstance(error, OSError) or "unable to open" in reason or "readonly" in reason
        is_hopeless = is_hopeless or "not a database" in reason or "authentication failed" in reason
        is_hopeless = is_hopeless or "does not exist" in reason
        if is_hopeless or not is_passing(error):
            raise StoreError(f"{where}: cannot be used, {reason}") from None
        raise StoreUnreachable(f"{where}: is unreachable, {reason}") from None
