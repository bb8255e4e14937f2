"""The outbox: events that are committed together with a service's rows, and the relay that publishes the events.

The relay marks an event as sent only after the broker's confirm.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, or_, select, update

from runner.errors import BrokerError, RunnerError
from runner.messages import Event, events_of
from runner.store.event_bytes import from_bytes, to_bytes
from runner.store.prepared import insert_new
from runner.store.process_store import Store
from runner.store.schema import leases, outbox

#: The default timeout of a commit, in seconds.
COMMIT_TIMEOUT = 5.0
#: The maximum number of unconfirmed events.
BATCH = 500
#: Seconds between reads of the outbox, and seconds to wait after an error. Regular reads also find the events of other
#: instances.
POLL, PAUSE = 0.2, 0.5
#: The duration of the relaying process's lease and the time between renewals, in seconds. If the process dies, another
#: process can relay events after the lease has expired.
LEASE, RENEW = 5.0, 1.5
#: The retention time of sent events, and the time between deletions of older events, in seconds.
RETENTION, PRUNE_INTERVAL = 7 * 86400.0, 60.0
#: Seconds between warnings about the same problem.
WARNING_INTERVAL = 10.0
#: The maximum number of old rows to delete in one transaction.
PRUNED = 1000


@dataclass(frozen=True)
class WaitingEvent:
    """An event that the broker has not confirmed."""

    number: int
    event: Event


def put(connection: Connection, service: str, event: Event) -> None:
    """Add an event to be published after the commit. An event whose id already exists is not added again."""
    row = {"service": service, "event_id": event.id, "event": to_bytes([event]), "created_at": _now()}
    insert_new(connection, outbox, row)


def waiting(store: Store, service: str, after: int, limit: int) -> list[WaitingEvent]:
    """Return up to ``limit`` waiting events with numbers above ``after``, in order. Raises StoreUnreachable."""
    rows = store.read(
        select(outbox.c.number, outbox.c.event)
        .where(outbox.c.service == service, outbox.c.sent_at.is_(None), outbox.c.number > after)
        .order_by(outbox.c.number)
        .limit(limit)
    )
    return [WaitingEvent(row.number, from_bytes(row.event)[0]) for row in rows]


def count_waiting(store: Store, service: str) -> int:
    """Return the number of waiting events. Raises StoreUnreachable."""
    found = select(func.count()).select_from(outbox).where(outbox.c.service == service, outbox.c.sent_at.is_(None))
    return int(store.read(found)[0][0])


def mark_sent(connection: Connection, numbers: Collection[int]) -> None:
    """Mark confirmed events as sent."""
    connection.execute(update(outbox).where(outbox.c.number.in_(numbers)).values(sent_at=_now()))


def prune(connection: Connection, service: str, keep: float) -> int:
    """Delete up to 1,000 events that were sent more than ``keep`` seconds ago. Return the number of deleted events."""
    limit = _now() - int(keep * 1000)
    old = select(outbox.c.number).where(outbox.c.service == service, outbox.c.sent_at < limit).limit(PRUNED)
    return connection.execute(delete(outbox).where(outbox.c.number.in_(old))).rowcount


def lease(connection: Connection, name: str, holder: str, seconds: float) -> bool:
    """Acquire or renew a lease that lasts ``seconds``. Return False if another process has the lease."""
    now = _now()
    row = {"name": name, "holder": holder, "until": now + int(seconds * 1000)}
    if insert_new(connection, leases, row):
        return True
    is_free = or_(leases.c.holder == holder, leases.c.until < now)
    taken = connection.execute(update(leases).where(leases.c.name == name, is_free).values(row))
    return taken.rowcount == 1


def release(connection: Connection, name: str, holder: str) -> None:
    """Release a lease before it expires."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def _now() -> int:
    return int(time.time() * 1000)


class Relay:
    """A thread that publishes the events in a service's outbox. Only one instance's thread is active at a time.

    Each event is published at least once. If the process is killed between the confirm and the marking, the event is
    published again with the same id.
    """

    def __init__(
        self,
        store: Store,
        service: str,
        publish: Callable[[Event], Future[None]],
        broker_problem: Callable[[], str | None],
        log: logging.Logger,
    ) -> None:
        self._store, self._service, self._publish = store, service, publish
        self._broker_problem, self._log = broker_problem, log
        self._name, self._holder = f"outbox of {service}", uuid.uuid4().hex
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._leased_until = self._prune_at = self._warn_again = 0.0
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Wake the thread to publish a newly added event."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for confirms, then release the lease for another instance."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        after = 0
        while not self._stopping.is_set():
            pause = POLL
            try:
                if self._is_ours() and self._broker_problem() is None:
                    batch = waiting(self._store, self._service, after, BATCH)
                    sent = self._relay(batch)
                    # A failed event waits until all other events have been published.
                    after = batch[-1].number if batch else 0
                    if batch and (sent or len(batch) == BATCH):
                        continue
                    pause = PAUSE if batch else POLL
                    self._prune()
            except (RunnerError, TimeoutError) as error:
                self._warn(str(error) or "the database does not answer")
                pause = PAUSE
            except Exception:  # noqa: BLE001 - the relay must continue
                self._log.exception("unexpected error in the outbox relay; retrying")
                pause = PAUSE
            self._wake.wait(pause)
            self._wake.clear()
        if self._leased_until:
            self._store.commit(lambda connection: release(connection, self._name, self._holder), COMMIT_TIMEOUT)

    def _is_ours(self) -> bool:
        now = time.monotonic()
        if now + LEASE - RENEW > self._leased_until:
            taken = self._store.commit(lambda one: lease(one, self._name, self._holder, LEASE), COMMIT_TIMEOUT)
            self._leased_until = now + LEASE if taken.result(2 * COMMIT_TIMEOUT) else 0.0
        return self._leased_until > now

    def _relay(self, batch: Sequence[WaitingEvent]) -> int:
        """Publish events, wait for their confirms, and mark the confirmed events.

        Return the number of confirmed events.
        """
        futures, sent = [], []
        for one in batch:
            try:
                futures.append((one.number, self._publish(one.event)))
            except (RunnerError, TypeError, ValueError) as error:
                self._warn(str(error))  # for example, `publishes` may no longer contain the exchange
        for number, future in futures:
            try:
                future.result()  # the publisher's confirm timeout limits the wait
                sent.append(number)
            except BrokerError as error:
                self._warn(str(error))
        if sent:
            self._store.commit(lambda connection: mark_sent(connection, sent)).result()
        return len(sent)

    def _prune(self) -> None:
        if time.monotonic() >= self._prune_at:
            pruned = self._store.commit(lambda connection: prune(connection, self._service, RETENTION), COMMIT_TIMEOUT)
            is_more = pruned.result(2 * COMMIT_TIMEOUT) == PRUNED
            self._prune_at = time.monotonic() + (0.0 if is_more else PRUNE_INTERVAL)

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._warn_again:
            self._warn_again = now + WARNING_INTERVAL
            self._log.warning("events are waiting in the outbox: %s; retrying", reason)


class EventOutbox:
    """The outbox of one service. See ``runner.hooks.Context.outbox``."""

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
        """Start publishing the events that an earlier process left in the outbox.

        See ``GroupCommit.commit`` for ``lock``.
        """
        self._store, self._service, self._lock, self._routed = store, service, lock, routed
        self._relay = Relay(store, service, publish, broker_problem, log)

    def transact(
        self, work: Callable[[Connection], Event | list[Event] | None], timeout: float = COMMIT_TIMEOUT
    ) -> Future[list[Event]]:
        """Commit the writes of ``work`` together with the events that it returns, then publish the events.

        The future's result is the list of committed events. Each event is published at least once, even if this process
        dies. ``work`` may be called more than once, but never at the same time as another ``work`` function of the
        plugin.

        If the future fails with one of the following errors, neither rows nor events are written:

        - the exception of ``work``
        - PluginError for an event that is missing under ``publishes``
        - StoreUnreachable if the database is unreachable for ``timeout`` seconds
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
        """Return the number of events that the broker has not yet confirmed. Raises StoreUnreachable."""
        return count_waiting(self._store, self._service)

    def stop(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for confirms.

        Another instance or a later process publishes the remaining events.
        """
        self._relay.stop(timeout)
