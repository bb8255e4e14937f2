"""The message pipeline, which performs the actions of each delivery's lifecycle on several threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import time_ns
from typing import Any, Protocol

from runner.amqp.consumer import Delivery
from runner.amqp.properties import Encoded, encode_copy
from runner.amqp.publisher import Done
from runner.errors import BrokerError, StoreUnreachable
from runner.ipc.shared_memory import SharedMemory
from runner.logs import Repeated
from runner.messages import Reject
from runner.worker.delivery import DeliveryAction, DeliveryEvent, DeliveryLifecycle, DeliveryState
from runner.worker.handler import Handler
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import Retries
from runner.worker.runtime import Runtime
from runner.worker.step_recorder import StepRecorder

#: Seconds between attempts while the broker or the database is unreachable. While the broker is unreachable, the delay
#: doubles after each attempt, up to ``LONGEST_DELAY``.
RETRY_PAUSE, LONGEST_DELAY = 0.5, 10.0
#: The states in which a stopping worker leaves a message unacked, so that the broker requeues it.
_NOT_BEGUN = (DeliveryState.RECEIVED, DeliveryState.POSTPONED)


class Send(Protocol):
    """A function that publishes a message and reports the outcome. See ``Publisher.send``."""

    def __call__(self, encoded: Encoded, done: Done, *, may_wait: bool) -> None:
        """Publish a message.

        ``may_wait`` is True if the calling thread may wait for space in the publisher's window.
        """


class Pipeline:
    """A worker's handler threads, and the deliveries that are waiting for a thread.

    A handler thread does not wait for commits or confirms, but continues with the next message. Each message is
    acknowledged after the last confirm of its events.
    """

    def __init__(
        self,
        handler: Handler,
        send: Send,
        retries: Retries,
        recorder: AttemptRecorder | None,
        memory: SharedMemory,
        steps: StepRecorder,
        runtime: Runtime,
        on_missing: Callable[[str], None],
        log: logging.Logger,
    ) -> None:
        """``on_missing`` is called with an error message if a retry queue or dead-letter queue does not exist."""
        self._handler, self._send, self._retries, self._recorder = handler, send, retries, recorder
        self._memory, self._steps = memory, steps
        self._runtime, self._on_missing = runtime, on_missing
        self._unpublished, self._paused = (Repeated(log, runtime.monotonic) for _ in range(2))
        self._queue: SimpleQueue[DeliveryLifecycle | None] = runtime.queue()
        self._stopping = False
        self._threads = self._open = self._handled = 0
        self._unacked: dict[str, int] = {}
        #: The lock for the counters and for messages with several unconfirmed events.
        self._lock = threading.Lock()
        self._idle = runtime.condition()
        self._log = log
        self._perform: dict[DeliveryAction, Callable[[DeliveryLifecycle], None]] = {
            DeliveryAction.HANDLE: self._handle,
            DeliveryAction.AWAIT_COMMIT: self._await_commit,
            DeliveryAction.AWAIT_OTHER: lambda one: one.until(lambda *_: self._queue.put(one)),
            DeliveryAction.HANDLE_LATER: self._handle_later,
            DeliveryAction.QUEUE: self._queue.put,
            DeliveryAction.DECIDE: self._decide,
            DeliveryAction.PUBLISH: partial(self._publish, may_wait=True),
            DeliveryAction.PUBLISH_AT_ONCE: partial(self._publish, may_wait=False),
            DeliveryAction.PUBLISH_LATER: self._publish_later,
            DeliveryAction.RECORD: self._record_attempt,
            DeliveryAction.ACK_UNRECORDED: self._ack_unrecorded,
            DeliveryAction.ACK: self._ack,
            DeliveryAction.REJECT: self._reject,
            DeliveryAction.RELEASE: self._close,
            DeliveryAction.REPORT_MISSING: self._report_missing,
        }

    def start(self, concurrency: int) -> None:
        """Start the handler threads."""
        self._threads = concurrency
        for number in range(concurrency):
            self._runtime.start(f"handler-{number + 1}", partial(self._run, number))

    def submit(self, delivery: Delivery) -> None:
        """Queue a delivery for a handler thread without blocking."""
        with self._lock:
            self._open += 1
            self._memory.in_hand(self._open)
            self._count_unacked(delivery.queue, 1)
        self._queue.put(DeliveryLifecycle(delivery, self._runtime.monotonic()))

    def stop(self, timeout: float) -> bool:
        """Finish the messages that handlers are processing.

        Return False if the messages are not finished within ``timeout`` seconds.

        The broker redelivers all other messages when the channel closes.
        """
        self._stopping = True
        with self._idle:
            is_idle = self._idle.wait_for(lambda: self._open == 0, timeout)
        for _ in range(self._threads):
            self._queue.put(None)
        return is_idle

    def _run(self, thread: int) -> None:
        while (one := self._queue.get()) is not None:
            one.thread = thread
            is_lost = not one.delivery.is_alive or (self._stopping and one.state in _NOT_BEGUN)
            self._feed(one, DeliveryEvent.LOST if is_lost else DeliveryEvent.TAKEN)

    def _feed(self, one: DeliveryLifecycle, event: DeliveryEvent) -> None:
        try:
            self._perform[one.step(event)](one)
        except Exception:  # noqa: BLE001 - the error is logged, and the worker stops
            # The I/O thread and the store's thread only log exceptions, so the message would remain unacked.
            self._runtime.crash()

    def _handle(self, one: DeliveryLifecycle) -> None:
        one.message = one.delivery.message()
        if not one.is_begun:
            one.is_begun = True
            self._steps.delivered(one.message)
        if (problem := one.delivery.problem) is not None:
            one.problem = Reject(problem)
            self._feed(one, DeliveryEvent.FAILED)
            return
        self._continue(one, self._handler, one)

    def _continue(self, one: DeliveryLifecycle, outcome: Callable[[Any], DeliveryEvent], argument: Any) -> None:
        """Call ``outcome``, and continue with the event that it returns or with the event for its exception."""
        try:
            event = outcome(argument)
        except StoreUnreachable as error:
            one.problem, event = error, DeliveryEvent.UNREACHABLE
        except BaseException as error:  # noqa: BLE001 - any exception of a plugin or the database fails the attempt
            one.problem, event = error, DeliveryEvent.FAILED
        self._feed(one, event)

    def _await_commit(self, one: DeliveryLifecycle) -> None:
        until, committed = one.until, one.committed
        # The commit refers to the delivery. If the delivery also referred to the commit, only the garbage collector
        # could free these objects.
        del one.until, one.committed
        # The store's thread calls this function, so that a slow handler does not delay the events of other messages.
        until(partial(self._continue, one, committed))

    def _handle_later(self, one: DeliveryLifecycle) -> None:
        if self._stopping:
            self._feed(one, DeliveryEvent.LOST)
            return
        self._paused.warn(f"message handling is paused, {one.problem}; retrying")
        self._runtime.call_later(RETRY_PAUSE, partial(self._queue.put, one))

    def _decide(self, one: DeliveryLifecycle) -> None:
        if not one.delivery.is_alive:
            self._feed(one, DeliveryEvent.LOST)  # the broker redelivers the message, so a copy would be a duplicate
            return
        one.failure = failure = self._retries.decide(one.message, one.problem)
        try:
            one.outgoing = [encode_copy(self._retries.copy(one.message, failure), one.delivery.properties)]
        except Exception as error:  # noqa: BLE001 - a sender can write values that no client can write again
            one.problem = error
            self._feed(one, DeliveryEvent.UNFIT)
            return
        self._feed(one, DeliveryEvent.DEAD_LETTER if failure.delay is None else DeliveryEvent.RETRY)

    def _publish(self, one: DeliveryLifecycle, *, may_wait: bool) -> None:
        outgoing = one.publish()
        if not outgoing:
            self._feed(one, DeliveryEvent.CONFIRMED)
        if self._steps.is_watched:
            one.sent_at = time_ns()
        answered = partial(self._answered, one)
        for encoded in outgoing:
            self._send(encoded, answered, may_wait=may_wait)

    def _answered(self, one: DeliveryLifecycle, encoded: Encoded, error: BrokerError | None) -> None:
        if error is None and one.state is DeliveryState.PUBLISHING:
            self._steps.published(encoded.event, one.sent_at, one.message.attempt)
        if one.unanswered == 1:
            event = one.answered(encoded, error)  # this is the last answer, so no other thread calls this method
        else:
            with self._lock:
                event = one.answered(encoded, error)
        if event is not None:
            self._feed(one, event)

    def _publish_later(self, one: DeliveryLifecycle) -> None:
        self._unpublished.warn(f"a message could not be published, {one.problem}; retrying")
        delay = min(RETRY_PAUSE * 2.0 ** min(one.failed_publishes, 10), LONGEST_DELAY)
        one.failed_publishes += 1
        self._runtime.call_later(delay, partial(self._queue.put, one))

    def _record_attempt(self, one: DeliveryLifecycle) -> None:
        report = self._recorder.report(one) if self._recorder is not None else None
        if report is None:
            self._feed(one, DeliveryEvent.UNRECORDED)
            return
        one.outgoing = [report]
        # This may be the I/O thread, which must not wait for space in the window, because no other thread frees space.
        self._publish(one, may_wait=False)

    def _ack_unrecorded(self, one: DeliveryLifecycle) -> None:
        if self._recorder is not None:
            self._recorder.drop(str(one.problem))
        self._ack(one)

    def _ack(self, one: DeliveryLifecycle) -> None:
        if one.failure is not None:
            one.failure.report(self._log, one.message)
        one.delivery.ack()
        self._steps.finished(one)
        self._close(one, is_handled=True)

    def _reject(self, one: DeliveryLifecycle) -> None:
        # The broker dead-letters the original message without a header for the reason, so the reason is only logged.
        if one.failure is not None:
            one.failure.report(self._log, one.message, no_copy=one.problem)
        one.delivery.reject()
        self._steps.rejected(one)
        self._close(one, is_handled=True)

    def _report_missing(self, one: DeliveryLifecycle) -> None:
        # A retry queue or the dead-letter queue was deleted. The message remains in its original queue.
        self._close(one)
        self._on_missing(str(one.problem))

    def _count_unacked(self, queue: str, change: int) -> None:
        self._unacked[queue] = count = self._unacked.get(queue, 0) + change
        self._steps.unacked(queue, count)

    def _close(self, one: DeliveryLifecycle, *, is_handled: bool = False) -> None:
        with self._lock:
            self._open -= 1
            self._memory.in_hand(self._open)
            self._count_unacked(one.delivery.queue, -1)
            if is_handled:
                self._handled += 1
                self._memory.handled(self._handled)
        # ``stop`` sets the flag before it first checks the counter. So either ``stop`` sees the new counter, or this
        # thread sees the flag.
        if self._stopping and self._open == 0:
            with self._idle:
                self._idle.notify_all()
