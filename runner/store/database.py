"""A database by its address: opened, brought to the schema of this version, and what its errors mean."""

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

from runner.errors import StoreAway, StoreError
from runner.store import REVISION

#: Seconds to wait for a lock that somebody else holds, and for a server to answer.
LOCK_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5
#: Seconds after which what nobody acknowledges on the way to a server counts as lost (TCP_USER_TIMEOUT, tcp(7)).
NETWORK_TIMEOUT = 30.0
#: How many threads of a process may read a SQLite file at once: as many as it may have handlers.
MOST_READERS = 64
#: Marks a connection that only reads, one statement at a time: it waits for nobody, and nobody for it.
_READS = "runner_reads"
#: SQLSTATEs that pass: connections, deadlocks and serialization, resources, a shutdown, a lock not had, a server that
#: only reads for now, and its system's errors.
_PASSING = ("08", "40", "53", "57P0", "55P03", "25006", "58")
#: PostgreSQL's advisory lock for migrations: a number that is ours.
_MIGRATION_LOCK = 0x0FA57C03


def open_database(address: str, folder: Path) -> Engine:
    """Open a database whose schema is this version's; a SQLite file's path is relative to ``folder``.

    Raises StoreAway where it does not answer for now, and StoreError where it cannot be used.
    """
    url = location(address, folder)
    with explained(url):
        if url.get_backend_name() == "sqlite":
            path = Path(str(url.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            # It holds what customers said: its user's alone, and so are the files that SQLite makes beside it.
            path.touch(0o600)
        engine = _engine(url)
        _bring_up_to_date(engine)
        return engine


def reading(engine: Engine) -> Engine:
    """The same database for single SELECTs, each of which is a transaction of its own and one round trip."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READS: True})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def location(address: str, folder: Path) -> URL:
    """Where a database is; its driver is ours to choose."""
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(folder / str(url.database)))
    return url.set(drivername="postgresql+psycopg")


def is_passing(error: BaseException) -> bool:
    """Whether a database error says nothing of the statement: it is away, locked, or has no room for now."""
    if isinstance(error, TimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    # SQLite's lowest byte says which kind it is (SQLite: "Result and Error Codes"), PostgreSQL's SQLSTATE its class
    # (PostgreSQL: "Error Codes"). Their drivers call much of what is the statement's own fault operational too.
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        return isinstance(error, OperationalError) and code & 0xFF != sqlite3.SQLITE_ERROR
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING)
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_timeout(error: BaseException) -> bool:
    """Whether PostgreSQL broke the statement off for taking too long, which may be another's lock or its own fault."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "57014"


def reason_of(error: BaseException) -> str:
    """The first line of what a database said, without the statement, whose values are nobody's business."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return words[0] if words else type(error).__name__


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        arguments = {"timeout": LOCK_TIMEOUT, "check_same_thread": False}
        engine = create_engine(url, hide_parameters=True, max_overflow=MOST_READERS, connect_args=arguments)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A connection that the server closed meanwhile is replaced before it is used.
    arguments = {"connect_timeout": CONNECT_TIMEOUT, "tcp_user_timeout": round(NETWORK_TIMEOUT * 1000)}
    return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=arguments)


def _set_up_sqlite(connection: Any, _: object) -> None:
    # Transactions are begun by us: the driver's own way begins them late, and not for reading.
    connection.isolation_level = None
    cursor = connection.cursor()
    _keep_a_log(cursor)
    # What is committed outlives a power cut too (SQLite: "PRAGMA synchronous").
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _keep_a_log(cursor: sqlite3.Cursor) -> None:
    """Have a file write ahead to a log, which stays so once it is."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # While another one does the same to a new file, this fails at once and does not wait for its lock (SQLite:
            # "Write-Ahead Logging", where SQLITE_BUSY may come in WAL mode).
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READS):
        # A transaction that began by reading could not wait for another's lock when it comes to write.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _bring_up_to_date(engine: Engine) -> None:
    found = _revision(engine)
    if found == REVISION:
        return
    # Its progress, and that of its own plugins, is nobody's news.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Imported only now, because nearly every start finds the schema as it should be; and before the lock is taken, for
    # which others wait.
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
                f"store.url: its schema {found} is of a newer version of FastCommerce than this one, which knows up to"
                f" {REVISION}; run the newer version, or use another database"
            )
        command.upgrade(config, "head")


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction for one process at a time; what is done half is undone."""
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
    """Raise what the database says as StoreAway or StoreError."""
    # As its user wrote it, without the driver.
    shown = url.set(drivername=url.get_backend_name())
    where = f"store.url: {shown.render_as_string(hide_password=True)}"
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        reason = reason_of(error)
        # SQLite's own words for a folder that is not there or may not be written.
        is_hopeless = isinstance(error, OSError) or "unable to open" in reason or "readonly" in reason
        is_hopeless = is_hopeless or "not a database" in reason or "authentication failed" in reason
        is_hopeless = is_hopeless or "does not exist" in reason
        if is_hopeless or not is_passing(error):
            raise StoreError(f"{where}: cannot be used, {reason}") from None
        raise StoreAway(f"{where}: is away, {reason}") from None
