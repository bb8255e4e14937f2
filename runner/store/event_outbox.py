"""The outbox as a service's own loop uses it: rows and events in one transaction, published afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from sqlalchemy import Connection

from runner.messages import Event, events_of
from runner.store.outbox import count_waiting, put
from runner.store.relay import Relay
from runner.store.store import Store

#: Seconds that a commit may take.
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
        """Start to publish what an earlier process has left; ``lock`` as for ``Store.commit``."""
        self._store, self._service, self._lock, self._routed = store, service, lock, routed
        self._relay = Relay(store, service, publish, broker_problem, log)
        self._relay.start()

    def transact(
        self, work: Callable[[Connection], Event | list[Event] | None], timeout: float = COMMIT_TIMEOUT
    ) -> Future[list[Event]]:
        """Commit what ``work`` writes together with the events that it returns, which are published afterwards.

        The future is done with the events once they are committed. Each is published at least once, also after this
        process has died. ``work`` runs as one of ``MessageStore.transact`` that is returned: while no other of the
        plugin runs, and maybe more than once. The future fails with what ``work`` raises, with PluginError for an event
        that the service may not publish, and with StoreAway if the database is unreachable for ``timeout`` seconds; in
        each case nothing is written.
        """

        def run(connection: Connection) -> list[Event]:
            events = [self._routed(event) for event in events_of(work(connection))]
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
        """Publish what is on its way; another instance or the next process publishes the rest."""
        self._relay.stop(timeout)
