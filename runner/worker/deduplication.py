"""Deduplication: one transaction contains a message's inbox row, its handler's writes and its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from runner.amqp.properties import encode
from runner.messages import Event, Message
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.event_routing import EventRouter
from runner.worker.handler import Handler
from runner.worker.storage import DeliveryStore, Storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Seconds between deletions of old inbox rows.
PRUNE_INTERVAL = 30.0

#: The queue and the id of a message.
_Key = tuple[str, str]


class Deduplication:
    """A wrapper that skips duplicates and commits the handler's writes."""

    def __init__(
        self,
        service: str,
        storage: Storage,
        keep: float | None,
        router: EventRouter,
        formerly: Mapping[str, str] | None = None,
    ) -> None:
        """``keep`` is the number of seconds for which the inbox stores a message id, or None if there is no inbox.

        ``formerly`` maps each renamed queue to its previous name, under which the inbox may contain messages.
        """
        self._service, self._storage, self._keep, self._router = service, storage, keep, router
        self._formerly = formerly or {}
        self._lock = threading.Lock()
        #: The messages that this process is handling, each with the callbacks of other deliveries of the same message.
        self._handling: dict[_Key, list[Callable[[], None]]] = {}

    def around(self, handler: Handler) -> Handler:
        """Return a handler that skips duplicates and commits the writes of new messages."""

        def handle_once(one: DeliveryLifecycle) -> DeliveryEvent:
            if self._knows(one.message) and (known := self._begin(one)) is not None:
                return known
            one.store = DeliveryStore(self._storage, inbox=self._keep is not None)
            try:
                event = handler(one)
                commit = self._commit(one)
            except BaseException:
                self._end(one.message)
                raise
            if commit is None:
                self._end(one.message)
                return event
            one.until = commit.add_done_callback
            one.committed = partial(self._committed, one)
            return DeliveryEvent.WRITTEN

        return handle_once

    def _begin(self, one: DeliveryLifecycle) -> DeliveryEvent | None:
        """Return None for a new message, which the caller must handle and then pass to ``_end``.

        Raises StoreUnreachable.
        """
        message = one.message
        key = (message.queue, message.id)
        with self._lock:
            if key in self._handling:
                one.until = partial(self._after, key)
                return DeliveryEvent.BUSY
            self._handling[key] = []
        try:
            from runner.store.inbox_rows import outcome

            found = outcome(self._storage.get(), self._service, message, self._formerly.get(message.queue))
        except BaseException:
            self._end(message)
            raise
        if found is None:
            return None
        self._end(message)
        return self._repeat(one, found)

    def _after(self, key: _Key, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the message is no longer being handled, or immediately if no thread is handling it."""
        with self._lock:
            if key in self._handling:
                self._handling[key].append(callback)
                return
        callback()

    def _end(self, message: Message) -> None:
        """Mark a message as no longer being handled, and call the callbacks of waiting deliveries."""
        if not self._knows(message):
            return
        with self._lock:
            waiting = self._handling.pop((message.queue, message.id), [])
        for callback in waiting:
            callback()

    def _repeat(self, one: DeliveryLifecycle, events: Sequence[Event]) -> DeliveryEvent:
        """Publish the events of an earlier delivery again.

        Raises PluginError if an event's exchange is no longer allowed.
        """
        one.is_duplicate = True
        one.outgoing = [encode(self._router.routed(event)) for event in events]
        return DeliveryEvent.DUPLICATE

    def _commit(self, one: DeliveryLifecycle) -> Future[Sequence[Event] | None] | None:
        """Start committing the handler's writes. Return a future, or None if there are no writes.

        The future's result is None, or the events of an earlier delivery that another process has handled in the
        meantime. If the database refuses the handler's writes, the future fails with the database's error.
        """
        message, store = one.message, one.store
        is_known = self._knows(message)
        if not is_known and not store.work:
            return None
        decides = store.deciding is not None
        lock = self._storage.plugin or self._service if decides else None

        def work(connection: Connection) -> Sequence[Event] | None:
            store.run(connection)
            if is_known and decides and one.outgoing:
                inbox.set_events(connection, self._service, message, [encoded.event for encoded in one.outgoing])
            return None

        if not is_known:
            return self._storage.get().commit(work, lock=lock)
        from runner.store import inbox_rows as inbox
        from runner.store.commit_batch import Insertion

        def otherwise(connection: Connection) -> Sequence[Event] | None:
            return inbox.earlier(connection, self._service, message)

        row = inbox.row(self._service, message, [encoded.event for encoded in one.outgoing])
        new = Insertion(inbox.INSERT, row, otherwise)
        return self._storage.get().commit(work, new=new, lock=lock)

    def _committed(self, one: DeliveryLifecycle, commit: Future[Sequence[Event] | None]) -> DeliveryEvent:
        self._end(one.message)
        earlier = commit.result()
        return DeliveryEvent.COMMITTED if earlier is None else self._repeat(one, earlier)

    def _knows(self, message: Message) -> bool:
        # Two messages without an id may be different messages, even with the same content.
        return self._keep is not None and message.has_own_id

    def forget(self) -> bool:
        """Delete at most ``PRUNED`` rows that are older than ``keep``. Return True if more old rows may remain."""
        if self._keep is None:
            return False
        from runner.store.inbox_rows import PRUNED, prune

        keep, service = self._keep, self._service
        return self._storage.get().commit(lambda connection: prune(connection, service, keep)).result() == PRUNED
