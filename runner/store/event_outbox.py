"""The outbox for services with their own loop: it commits rows with events, then publishes the events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from sqlalchemy import Connection

from runner.messages import Event, events_of
from runner.store.outbox import Relay, count_waiting, put
from runner.store.process_store import Store

#: The default timeout of a commit in seconds.
COMMIT_TIMEOUT = 5.0


class EventOutbox:
    """The outbox of one service; see ``runner.hooks.Context.outbox``."""

    def __init__(
        self,
        store: Store,
        service: str,
        lock: str,
        routed: Callable[[Event], Event],
        publish: Callable[[Event], Future[None]],
        broker_problem: Callable[[], str | None],
        log: logging.Logger,
    ) -> None:
        """Start to publish the events that an earlier process has left. ``Store.commit`` describes ``lock``."""
        self._store, self._service, self._lock, self._routed = store, service, lock, routed
        self._relay = Relay(store, service, publish, broker_problem, log)
        self._relay.start()

    def transact(
        self, work: Callable[[Connection], Event | list[Event] | None], timeout: float = COMMIT_TIMEOUT
    ) -> Future[list[Event]]:
        """Commit the writes of ``work`` together with the events that it returns, then publish the events.

        The result of the future is the committed events. Each event is published at least once, even if this process
        dies. ``work`` may be called more than once, and the plugin runs only one such function at a time.

        The future fails with one of these errors, and then nothing is written:

        - the exception of ``work``
        - PluginError for an event that the service may not publish
        - StoreAway if the database is unreachable for ``timeout`` seconds
        """

        def run(connection: Connection) -> list[Event]:
            events = [self._routed(event) for event in events_of(work(connection), "outbox.transact")]
            for event in events:
                put(connection, self._service, event)
            return events

        future = self._store.commit(run, timeout, lock=self._lock)
        future.add_done_callback(lambda _: self._relay.wake())
        return future

    def waiting(self) -> int:
        """Return the number of events that the broker has not confirmed yet. Raises StoreAway."""
        return count_waiting(self._store, self._service)

    def stop(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for started publishes; another instance or a later process does the rest."""
        self._relay.stop(timeout)
