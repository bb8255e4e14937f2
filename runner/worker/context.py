"""What the worker offers a plugin's hooks."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from runner.amqp.publisher import Publisher
from runner.ipc.lifeline import Lifeline
from runner.ipc.shared_memory import SharedMemory
from runner.messages import Event, random_id
from runner.worker.event_routing import EventRouter
from runner.worker.storage import Storage

if TYPE_CHECKING:
    from runner.store.outbox import EventOutbox
    from runner.store.process_store import Store


class WorkerContext:
    """Implements ``runner.hooks.Context``."""

    def __init__(
        self,
        service: str,
        slot: str,
        log: logging.Logger,
        publisher: Publisher,
        router: EventRouter,
        on_ready: Callable[[str, bool], None],
        stopping: threading.Event,
        lifeline: Lifeline,
        record: SharedMemory,
        stop_timeout: float,
        storage: Storage,
        order_history: Callable[[str], dict[str, Any] | None] | None,
    ) -> None:
        """``order_history`` looks an order up; None if no service records events."""
        self.service, self.slot, self.log, self.stop_timeout = service, slot, log, stop_timeout
        self._publisher, self._router, self._on_ready, self._stopping = publisher, router, on_ready, stopping
        self._lifeline, self._record, self._storage = lifeline, record, storage
        self._order_history, self.has_history = order_history, order_history is not None
        self._outbox: EventOutbox | None = None
        self._lock, self._outbox_lock = threading.Lock(), threading.Lock()
        self._open = self._published = 0
        #: Since when nobody waits for the stop, where somebody looks for it again and again.
        self._busy_since: float | None = None
        self._loop_thread: int | None = None

    def publish(self, event: Event) -> Future[None]:
        """Publish from any thread; see ``runner.hooks.Context``."""
        routed = self.routed(event)
        with self._lock:
            self._open += 1
            self._record.in_hand(self._open)
        try:
            return self._publisher.publish(routed, self._done)
        except BaseException as error:
            self._done(error)  # it does not fit, and was not sent
            raise

    def routed(self, event: Event) -> Event:
        """The event as it will be sent; see ``runner.hooks.Context``."""
        return self._router.routed(event, event.id or random_id())

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket that listens and outlives this process; see ``runner.hooks.Context``."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._lifeline.listen(str(found[0][4][0]), port)

    @property
    def store(self) -> Store:
        """The database; see ``runner.hooks.Context``."""
        return self._storage.get()

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of the service; see ``runner.hooks.Context``."""
        with self._outbox_lock:
            if self._outbox is None:
                from runner.store.outbox import EventOutbox

                lock = self._storage.plugin or self.service
                self._outbox = EventOutbox(
                    self.store, self.service, lock, self.routed, self.publish, self.broker_problem, self.log
                )
            return self._outbox

    def close_outbox(self, timeout: float) -> None:
        """Publish what is on its way."""
        with self._outbox_lock:
            if self._outbox is not None:
                self._outbox.stop(timeout)

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        """What became of an order; see ``runner.hooks.Context``."""
        return None if self._order_history is None else self._order_history(order_id)

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        """Tell the supervisor that the service does its work; see ``runner.hooks.Context``."""
        self._on_ready(status, needs_broker)

    def broker_problem(self) -> str | None:
        """Why nothing can be published now, or None."""
        problem = self._publisher.problem()
        return None if problem is None else str(problem)

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait for the stop; True when it has come."""
        is_loop = threading.get_ident() == self._loop_thread
        if is_loop:
            self._busy_since = None
        is_stopping = self._stopping.wait(timeout)
        if is_loop and timeout is not None:
            self._busy_since = time.monotonic()
        return is_stopping

    @contextlib.contextmanager
    def own_loop(self) -> Iterator[None]:
        """While the plugin's own loop runs on this thread, it is expected to come round."""
        self._loop_thread = threading.get_ident()
        try:
            yield
        finally:
            self._loop_thread = self._busy_since = None

    def overdue(self, now: float, timeout: float) -> str | None:
        """In words, that the service's own loop no longer looks for the stop; None where it does, or never did."""
        since = self._busy_since
        if since is None or now - since <= timeout:
            return None
        return f"its own loop has not come round for {now - since:.1f} s"

    def _done(self, error: BaseException | None) -> None:
        with self._lock:
            self._open -= 1
            self._record.in_hand(self._open)
            if error is None:
                self._published += 1
                self._record.published(self._published)
