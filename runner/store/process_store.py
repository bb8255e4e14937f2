"""The store of one process, with immediate reads and group commits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.contract import OwnedTables
from runner.errors import StoreUnreachable
from runner.store.commit_batch import Insertion
from runner.store.database import is_passing, open_database, reading, reason_of
from runner.store.group_commit import GroupCommit
from runner.store.plugin_migration import migrate
from runner.store.prepared import Prepared

T = TypeVar("T")
#: The maximum number of idle connections for reading, which must be below the pool size.
MOST_KEPT = 4


class Store:
    """An open database that any thread can use."""

    def __init__(
        self,
        address: str,
        folder: Path,
        on_state: Callable[[str | None], None] = lambda _: None,
        owned: OwnedTables | None = None,
    ) -> None:
        """Open the database and migrate the plugin's tables in ``owned``. See ``GroupCommit`` for ``on_state``.

        Raises the same errors as ``open_database`` and ``migrate``.
        """
        self.engine = open_database(address, folder)
        if owned is not None:
            migrate(self.engine, owned)
        self._writer = GroupCommit(self.engine, on_state)
        self._readers = reading(self.engine)
        #: The idle connections for reading. The most recently used connection is reused first.
        self._kept: deque[Connection] = deque()

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return all committed rows of a SELECT. Raises StoreUnreachable if the database is unreachable or busy."""
        try:
            return self._read(statement, parameters)
        except SQLAlchemyError as error:
            if is_passing(error):
                raise StoreUnreachable(f"the database is unreachable: {reason_of(error)}") from None
            raise

    def _read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None) -> Sequence[Any]:
        while True:
            try:
                connection, is_kept = self._kept.pop(), True
            except IndexError:
                connection, is_kept = self._readers.connect(), False
            try:
                if isinstance(statement, Prepared):
                    rows: Sequence[Any] = statement.read(connection, parameters or {})
                else:
                    rows = connection.execute(statement, parameters).all()
            except BaseException as error:
                connection.close()
                if is_kept and isinstance(error, DBAPIError) and error.connection_invalidated:
                    continue  # the server has closed the idle connection, but a read can be repeated
                raise
            if len(self._kept) < MOST_KEPT:
                self._kept.append(connection)
            else:
                connection.close()
            return rows

    def commit(
        self,
        work: Callable[[Connection], T],
        timeout: float | None = None,
        new: Insertion[T] | None = None,
        lock: str | None = None,
    ) -> Future[T]:
        """Run ``work`` in a transaction that other jobs may share. See ``GroupCommit.commit``."""
        return self._writer.commit(work, timeout, new, lock)

    @property
    def asked_since(self) -> float | None:
        """The start of the current transaction as monotonic time in seconds. None between transactions."""
        return self._writer.asked_since

    def close(self, timeout: float) -> None:
        """Commit the waiting jobs within ``timeout`` seconds and close all connections."""
        self._writer.close(timeout)
        while self._kept:
            self._kept.pop().close()
        self.engine.dispose()
