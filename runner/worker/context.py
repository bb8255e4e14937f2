"""The context that the worker passes to the hooks of a plugin."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from runner.amqp.publisher import Publisher
from runner.ipc.lifeline import Lifeline
from runner.ipc.shared_memory import SharedMemory
from runner.messages import Event, random_id
from runner.worker.event_routing import EventRouter
from runner.worker.step_recorder import StepRecorder
from runner.worker.storage import Storage

if TYPE_CHECKING:
    from runner.store.outbox import EventOutbox
    from runner.store.process_store import Store


class WorkerContext:
    """The implementation of ``runner.hooks.Context``."""

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
        memory: SharedMemory,
        steps: StepRecorder,
        stop_timeout: float,
        storage: Storage,
        order_history: Callable[[str], dict[str, Any] | None] | None,
    ) -> None:
        """``order_history`` is a function that returns an order's history, or None if no service records events."""
        self.service, self.slot, self.log, self.stop_timeout = service, slot, log, stop_timeout
        self._publisher, self._router, self._on_ready, self._stopping = publisher, router, on_ready, stopping
        self._lifeline, self._memory, self._steps, self._storage = lifeline, memory, steps, storage
        self._order_history, self.has_history = order_history, order_history is not None
        self._outbox: EventOutbox | None = None
        self._lock, self._outbox_lock = threading.Lock(), threading.Lock()
        self._open = self._published = 0
        #: The monotonic time at which the last ``wait_stop`` with a timeout returned. None unless the plugin's loop is
        #: busy.
        self._busy_since: float | None = None
        self._loop_thread: int | None = None

    def publish(self, event: Event) -> Future[None]:
        """Publish an event from any thread. See ``runner.hooks.Context``."""
        routed = self.routed(event)
        self._steps.look()
        sent_at = time.time_ns() if self._steps.is_watched else 0
        with self._lock:
            self._open += 1
            self._memory.in_hand(self._open)
        try:
            return self._publisher.publish(routed, partial(self._done, routed, sent_at))
        except BaseException as error:
            self._done(routed, sent_at, error)  # the event could not be encoded, so it was not sent
            raise

    def routed(self, event: Event) -> Event:
        """Return the event with its exchange, routing key and id."""
        return self._router.routed(event, event.id or random_id())

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a listening socket. See ``runner.hooks.Context``."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._lifeline.listen(str(found[0][4][0]), port)

    @property
    def store(self) -> Store:
        """The database. See ``runner.hooks.Context``."""
        return self._storage.get()

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of the service. See ``runner.hooks.Context``."""
        with self._outbox_lock:
            if self._outbox is None:
                from runner.store.outbox import EventOutbox

                lock = self._storage.plugin or self.service
                self._outbox = EventOutbox(
                    self.store, self.service, lock, self.routed, self.publish, self.broker_problem, self.log
                )
            return self._outbox

    def close_outbox(self, timeout: float) -> None:
        """Stop the outbox and wait at most ``timeout`` seconds for its confirms."""
        with self._outbox_lock:
            if self._outbox is not None:
                self._outbox.stop(timeout)

    def order_history(self, order_id: str) -> dict[str, Any] | None:
        """Return the history of an order. See ``runner.hooks.Context``."""
        return None if self._order_history is None else self._order_history(order_id)

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        """Report that the service is ready. See ``runner.hooks.Context``."""
        self._on_ready(status, needs_broker)

    def broker_problem(self) -> str | None:
        """Return the reason why events cannot be published at the moment, or None if they can."""
        problem = self._publisher.problem()
        return None if problem is None else str(problem)

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait for a stop request. See ``runner.hooks.Context``."""
        is_loop = threading.get_ident() == self._loop_thread
        if is_loop:
            self._busy_since = None
        is_stopping = self._stopping.wait(timeout)
        if is_loop and timeout is not None:
            self._busy_since = time.monotonic()
        return is_stopping

    @contextlib.contextmanager
    def own_loop(self) -> Iterator[None]:
        """Return a context manager for the plugin's own loop.

        Inside the context, ``overdue`` checks that the loop calls ``wait_stop``.
        """
        self._loop_thread = threading.get_ident()
        try:
            yield
        finally:
            self._loop_thread = self._busy_since = None

    def overdue(self, now: float, timeout: float) -> str | None:
        """Return an error message if the plugin's loop has not called ``wait_stop`` for ``timeout`` seconds, else None.

        ``now`` is in seconds of the monotonic clock.
        """
        since = self._busy_since
        if since is None or now - since <= timeout:
            return None
        return f"the plugin's loop has not called wait_stop for {now - since:.1f} s"

    def _done(self, event: Event, sent_at: int, error: BaseException | None) -> None:
        if error is None:
            self._steps.published(event, sent_at)
        with self._lock:
            self._open -= 1
            self._memory.in_hand(self._open)
            if error is None:
                self._published += 1
                self._memory.published(self._published)
