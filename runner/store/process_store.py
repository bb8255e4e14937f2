"""The store of one process: reads at once, writes with a commit that others share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from runner.contract import OwnedTables
from runner.errors import StoreAway
from runner.store.commit_batch import Insertion
from runner.store.database import is_passing, open_database, reading, reason_of
from runner.store.group_commit import GroupCommit
from runner.store.plugin_migration import migrate
from runner.store.prepared import Prepared

T = TypeVar("T")
#: How many connections are kept open for reading: fewer than the pool has for all.
MOST_KEPT = 4


class Store:
    """Opens the database; used from any thread."""

    def __init__(
        self,
        address: str,
        folder: Path,
        on_state: Callable[[str | None], None] = lambda _: None,
        owned: OwnedTables | None = None,
    ) -> None:
        """Open it for a plugin with the tables ``owned``; ``on_state`` as ``GroupCommit``.

        Raises as ``open_database`` and ``migrate``.
        """
        self.engine = open_database(address, folder)
        if owned is not None:
            migrate(self.engine, owned)
        self._writer = GroupCommit(self.engine, on_state)
        self._readers = reading(self.engine)
        #: Connections for reading that nobody reads from just now; the one that was used last is the next.
        self._kept: deque[Connection] = deque()

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """All rows of a SELECT, as last committed. Raises StoreAway where the database is away or busy."""
        try:
            return self._read(statement, parameters)
        except SQLAlchemyError as error:
            if is_passing(error):
                raise StoreAway(f"the database is away: {reason_of(error)}") from None
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
                    continue  # the server closed it while it was kept; a read can be done again
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
        """Run ``work`` in a transaction, maybe together with others'; see ``GroupCommit.commit``."""
        return self._writer.commit(work, timeout, new, lock)

    @property
    def asked_since(self) -> float | None:
        """Since when a commit is under way, on the monotonic clock; None where none is."""
        return self._writer.asked_since

    def close(self, timeout: float) -> None:
        """Commit what is at hand, and close."""
        self._writer.close(timeout)
        while self._kept:
            self._kept.pop().close()
        self.engine.dispose()
