"""The store as a worker has it: opened when it is first needed, and for each message a part of one transaction."""

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


#: Seconds that a database may take to answer a commit, whatever a handler may take.
PATIENCE = 60.0


class Storage:
    """Opens the store at the first use, because most services have none and its imports take their time."""

    def __init__(
        self,
        address: str,
        folder: Path,
        on_state: Callable[[str | None], None],
        owned: OwnedTables | None = None,
        plugin: str = "",
    ) -> None:
        """``owned`` are the tables of the service's plugin, whose deciding transactions run one after another."""
        self.plugin, self._owned = plugin, owned
        self._address, self._folder, self._on_state = address, folder, on_state
        self._lock = threading.Lock()
        self._store: Store | None = None

    def get(self) -> Store:
        """The store. Raises StoreAway and StoreError."""
        with self._lock:
            if self._store is None:
                from runner.store.process_store import Store

                self._store = Store(self._address, self._folder, self._on_state, self._owned)
            return self._store

    def overdue(self, now: float, timeout: float) -> str | None:
        """In words, a commit that the database has not answered for ``timeout`` s, and a minute; None without one."""
        since = None if self._store is None else self._store.asked_since
        # A lock that another one holds, or a server that is away, is waited for within a commit too.
        if since is None or now - since <= max(timeout, PATIENCE):
            return None
        return f"the database has not answered for {now - since:.1f} s, longer than it may take"

    def close(self, timeout: float) -> None:
        """Commit what is at hand, and close; what does not get done within ``timeout`` seconds fails."""
        with self._lock:
            if self._store is not None:
                self._store.close(timeout)


class DeliveryStore:
    """What a handler gets as ``store``; see ``runner.hooks.MessageStore``."""

    def __init__(self, storage: Storage, *, inbox: bool) -> None:
        self._storage = storage
        self.inbox = inbox
        #: What is to be done in the message's transaction, in order.
        self.work: list[Callable[[Connection], object]] = []
        #: The one of them whose result are the message's events, and what is done with that result; None if the
        #: handler has returned the events itself.
        self.deciding: tuple[Callable[[Connection], object], Callable[[object], None]] | None = None

    def read(self, statement: Executable | Prepared, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """All rows of a SELECT, as last committed."""
        return self._storage.get().read(statement, parameters)

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> None:
        """Execute a statement in the message's transaction."""
        self.transact(lambda connection: connection.execute(statement, parameters))

    def transact(self, work: Callable[[Connection], object]) -> TransactionResult:
        """Call ``work`` in the message's transaction."""
        self.work.append(work)
        return TransactionResult(work)

    def decide(self, result: TransactionResult, accept: Callable[[object], None]) -> None:
        """Call ``accept`` with what the work returns in the transaction. Raises BadOutcome if it is another store's."""
        if not any(result.work is one for one in self.work):
            raise BadOutcome("handle: returned the result of another store's transact; allowed: that of its own store")
        self.deciding = result.work, accept

    def run(self, connection: Connection) -> None:
        """Do all of it, and accept the result of the deciding work."""
        work, accept = self.deciding or (None, None)
        for write in self.work:
            result = write(connection)
            if write is work and accept is not None:
                accept(result)
