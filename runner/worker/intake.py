"""Each message once: its inbox row, its handler's own writes and its events are committed together, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.messages import Event, Message
from runner.worker.storage import MessageStore, Storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Seconds between two times that old rows are forgotten.
PRUNE_INTERVAL = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a message comes to: the events to publish, and whether they are those of an earlier delivery."""

    events: Sequence[Event]
    is_earlier: bool = False


class Intake:
    """What stands between a delivery and its handler in a service with a store."""

    def __init__(
        self, service: str, storage: Storage, keep: float | None, formerly: Mapping[str, str] | None = None
    ) -> None:
        """``keep`` is how many seconds a message is remembered; None for a service without an inbox.

        ``formerly`` are the former names of renamed queues, under which messages may be remembered.
        """
        self._service, self._storage, self._keep, self._formerly = service, storage, keep, formerly or {}
        self._lock = threading.Lock()
        #: Messages at work in this process, of which a second delivery must wait.
        self._at_work: dict[tuple[str, str], list[Callable[[], None]]] = {}

    def store_for(self) -> MessageStore:
        """What the handler of one message gets."""
        return MessageStore(self._storage, inbox=self._keep is not None)

    def begin(self, message: Message, again: Callable[[], None]) -> Outcome | bool:
        """Before the handler: True for a message to handle, the outcome of one that was handled before.

        False where another delivery of it is at work just now; ``again`` is called when that has ended. Each True
        needs an ``end``. Raises StoreAway.
        """
        if not self._knows(message):
            return True
        key = (message.queue, message.id)
        with self._lock:
            if key in self._at_work:
                self._at_work[key].append(again)
                return False
            self._at_work[key] = []
        try:
            from runner.store.inbox import outcome

            found = outcome(self._storage.get(), self._service, message, self._formerly.get(message.queue))
        except BaseException:
            self.end(message)
            raise
        if found is None:
            return True
        self.end(message)
        return Outcome(found, is_earlier=True)

    def end(self, message: Message) -> None:
        """The message is no longer at work here: its outcome is committed, or it failed."""
        if not self._knows(message):
            return
        with self._lock:
            waiting = self._at_work.pop((message.queue, message.id), [])
        for again in waiting:
            again()

    def commit(self, message: Message, store: MessageStore, events: Sequence[Event]) -> Future[Outcome] | None:
        """Commit what the handler of ``message`` did; None where there is nothing to commit.

        Fails with what the database said of the handler's own writes.
        """
        is_known = self._knows(message)
        if not is_known and not store.work:
            return None

        def work(connection: Connection) -> Outcome:
            for write in store.work:
                write(connection)
            return Outcome(events)

        if not is_known:
            return self._storage.get().commit(work)
        from runner.store import inbox
        from runner.store.job import Insertion

        def otherwise(connection: Connection) -> Outcome:
            return Outcome(inbox.earlier(connection, self._service, message), is_earlier=True)

        new = Insertion(inbox.INSERT, inbox.row(self._service, message, events), otherwise)
        return self._storage.get().commit(work, new=new)

    def _knows(self, message: Message) -> bool:
        # Two messages without an id that hold the same may be two all the same.
        return self._keep is not None and message.has_own_id

    def forget(self) -> bool:
        """Forget a part of what is older than it is kept; True where there may be more."""
        if self._keep is None:
            return False
        from runner.store.inbox import PRUNED, prune

        keep, service = self._keep, self._service
        return self._storage.get().commit(lambda connection: prune(connection, service, keep)).result() == PRUNED
