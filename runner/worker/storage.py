"""A worker's store, which is opened when first used, and a handler's writes in the store's transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.messages import BadOutcome, TransactionResult

if TYPE_CHECKING:
    from sqlalchemy import Connection, Executable

    from runner.contract import OwnedTables
    from runner.store.prepared import Prepared
    from runner.store.process_store import Store


#: Seconds that the database may take to answer a commit, even if ``handler_timeout`` is shorter.
PATIENCE = 60.0


class Storage:
    """A store that is opened when first used, because its imports are slow and most services need no store."""

    def __init__(
        self,
        address: str,
        folder: Path,
        on_state: Callable[[str | None], None],
        owned: OwnedTables | None = None,
        plugin: str = "",
    ) -> None:
        """``owned`` contains the plugin's tables.

        ``plugin`` is the name of the lock for transactions that return events.
        """
        self.plugin, self._owned = plugin, owned
        self._address, self._folder, self._on_state = address, folder, on_state
        self._lock = threading.Lock()
        self._store: Store | None = None

    def get(self) -> Store:
        """Return the store. Raises StoreUnreachable and StoreError."""
        with self._lock:
            if self._store is None:
                from runner.store.process_store import Store

                self._store = Store(self._address, self._folder, self._on_state, self._owned)
            return self._store

    def overdue(self, now: float, timeout: float) -> str | None:
        """Return an error message if a commit has waited for an answer longer than ``timeout`` seconds, else None.

        Every commit is allowed at least one minute. ``now`` is in seconds of the monotonic clock.
        """
        since = None if self._store is None else self._store.asked_since
        # A commit may have to wait for another connection's lock, or for an unreachable server.
        if since is None or now - since <= max(timeout, PATIENCE):
            return None
        return f"the database has not answered a commit for {now - since:.1f} s"

    def close(self, timeout: float) -> None:
        """Finish waiting commits within ``timeout`` seconds and close the store. Unfinished commits fail."""
        with self._lock:
            if self._store is not None:
                self._store.close(timeout)


class DeliveryStore:
    """The implementation of ``runner.hooks.MessageStore``."""

    def __init__(self, storage: Storage, *, inbox: bool) -> None:
        self._storage = storage
        self.inbox = inbox
        #: The functions to call in the message's transaction, in order.
        self.work: list[Callable[[Connection], object]] = []
        #: The function in ``work`` that returns the message's events, and a function that accepts these events. None if
        #: the handler itself has returned the events.
        self.deciding: tuple[Callable[[Connection], object], Callable[[object], None]] | None = None

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return all committed rows of a SELECT."""
        return self._storage.get().read(statement, parameters)

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> None:
        """Execute a statement in the message's transaction."""
        self.transact(lambda connection: connection.execute(statement, parameters))

    def transact(self, work: Callable[[Connection], object]) -> TransactionResult:
        """Call ``work`` in the message's transaction."""
        self.work.append(work)
        return TransactionResult(work)

    def decide(self, result: TransactionResult, accept: Callable[[object], None]) -> None:
        """Pass the work's result to ``accept`` within the transaction.

        Raises BadOutcome if the work belongs to another message.
        """
        if not any(result.work is one for one in self.work):
            raise BadOutcome(
                "handle: returned the store.transact result of another message; allowed: the result of this message"
            )
        self.deciding = result.work, accept

    def run(self, connection: Connection) -> None:
        """Call all functions in ``work``, and pass on the events that the function in ``deciding`` returns."""
        work, accept = self.deciding or (None, None)
        for write in self.work:
            result = write(connection)
            if write is work and accept is not None:
                accept(result)
