"""Performs the actions of deliveries: on handler threads, on the store's thread and on the I/O thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from runner.amqp.consumer import Delivery
from runner.amqp.properties import Encoded, encode_copy
from runner.amqp.publisher import Done
from runner.errors import BrokerError, StoreAway
from runner.ipc.shared_memory import SharedMemory
from runner.logs import Repeated
from runner.messages import Reject
from runner.worker.delivery import DeliveryAction, DeliveryEvent, DeliveryLifecycle, DeliveryState
from runner.worker.handler import Handler
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import Retries
from runner.worker.runtime import Runtime

#: Seconds until a message is tried again because the broker or the database is unreachable; for the broker they are
#: doubled each time up to the second number.
TRY_AGAIN, LONGEST_DELAY = 0.5, 10.0
#: States of messages that a stopping worker leaves to the broker.
_NOT_BEGUN = (DeliveryState.RECEIVED, DeliveryState.POSTPONED)


class Send(Protocol):
    """Publishes a message, and reports its confirm, or why there is none; see ``Publisher.send``."""

    def __call__(self, encoded: Encoded, done: Done, *, may_wait: bool) -> None:
        """Publish a message; ``may_wait`` is whether this thread may wait for room in the window."""


class Pipeline:
    """Handles deliveries on ``concurrency`` threads.

    A handler thread does not wait for commits or confirms: the last confirm of a message acknowledges it, and the next
    message is handled meanwhile.
    """

    def __init__(
        self,
        handler: Handler,
        send: Send,
        retries: Retries,
        recorder: AttemptRecorder | None,
        record: SharedMemory,
        runtime: Runtime,
        on_missing: Callable[[str], None],
        log: logging.Logger,
    ) -> None:
        """``on_missing`` gets the reason if a retry queue or a dead-letter queue does not exist."""
        self._handler, self._send, self._retries, self._recorder = handler, send, retries, recorder
        self._record, self._runtime, self._on_missing = record, runtime, on_missing
        self._unpublished, self._paused = (Repeated(log, runtime.monotonic) for _ in range(2))
        self._queue: SimpleQueue[DeliveryLifecycle | None] = runtime.queue()
        self._stopping = False
        self._threads = self._open = self._handled = 0
        #: Guards the counters, and the answers to several events of one message.
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
        """Accept a delivery; never blocks."""
        with self._lock:
            self._open += 1
            self._record.in_hand(self._open)
        self._queue.put(DeliveryLifecycle(delivery, self._runtime.monotonic()))

    def stop(self, timeout: float) -> bool:
        """Finish the messages that a handler has begun; True when all of them are answered within ``timeout`` s.

        Those that no handler has begun go back to the broker when the channel closes.
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
        except Exception:  # noqa: BLE001 - logged, and the worker ends
            # Maybe on the I/O thread or the store's, which only log exceptions: the message would stay unacked.
            self._runtime.crash()

    def _handle(self, one: DeliveryLifecycle) -> None:
        one.message = one.delivery.message()
        if (problem := one.delivery.problem) is not None:
            one.problem = Reject(problem)
            self._feed(one, DeliveryEvent.FAILED)
            return
        self._settle(one, self._handler, one)

    def _settle(self, one: DeliveryLifecycle, outcome: Callable[[Any], DeliveryEvent], argument: Any) -> None:
        """Go on with the event that ``outcome`` returns, or with what it raises."""
        try:
            event = outcome(argument)
        except StoreAway as error:
            one.problem, event = error, DeliveryEvent.UNREACHABLE
        except BaseException as error:  # noqa: BLE001 - whatever a plugin or the database raises fails the attempt
            one.problem, event = error, DeliveryEvent.FAILED
        self._feed(one, event)

    def _await_commit(self, one: DeliveryLifecycle) -> None:
        until, committed = one.until, one.committed
        # The commit refers to the delivery: with a reference back, only a garbage collection would free them.
        del one.until, one.committed
        # On the store's thread, so that a slow handler does not delay the events of other messages.
        until(partial(self._settle, one, committed))

    def _handle_later(self, one: DeliveryLifecycle) -> None:
        if self._stopping:
            self._feed(one, DeliveryEvent.LOST)
            return
        self._paused.warn(f"nothing can be handled for now, {one.problem}: tried again until it can")
        self._runtime.call_later(TRY_AGAIN, partial(self._queue.put, one))

    def _decide(self, one: DeliveryLifecycle) -> None:
        if not one.delivery.is_alive:
            self._feed(one, DeliveryEvent.LOST)  # the broker delivers it again, and a copy would make two of it
            return
        one.failure = failure = self._retries.decide(one.message, one.problem)
        try:
            one.outgoing = [encode_copy(self._retries.copy(one.message, failure), one.delivery.properties)]
        except Exception as error:  # noqa: BLE001 - whatever a sender wrote that no client can write again
            one.problem = error
            self._feed(one, DeliveryEvent.UNFIT)
            return
        self._feed(one, DeliveryEvent.DEAD_LETTER if failure.delay is None else DeliveryEvent.RETRY)

    def _publish(self, one: DeliveryLifecycle, *, may_wait: bool) -> None:
        outgoing = one.publish()
        if not outgoing:
            self._feed(one, DeliveryEvent.CONFIRMED)
        answered = partial(self._answered, one)
        for encoded in outgoing:
            self._send(encoded, answered, may_wait=may_wait)

    def _answered(self, one: DeliveryLifecycle, encoded: Encoded, error: BrokerError | None) -> None:
        if one.unanswered == 1:
            event = one.answered(encoded, error)  # no other answer is due, so no thread can be here at the same time
        else:
            with self._lock:
                event = one.answered(encoded, error)
        if event is not None:
            self._feed(one, event)

    def _publish_later(self, one: DeliveryLifecycle) -> None:
        self._unpublished.warn(f"not published, {one.problem}: tried again until it is")
        delay = min(TRY_AGAIN * 2.0 ** min(one.tries, 10), LONGEST_DELAY)
        one.tries += 1
        self._runtime.call_later(delay, partial(self._queue.put, one))

    def _record_attempt(self, one: DeliveryLifecycle) -> None:
        report = self._recorder.report(one) if self._recorder is not None else None
        if report is None:
            self._feed(one, DeliveryEvent.UNRECORDED)
            return
        one.outgoing = [report]
        # Maybe on the I/O thread, which alone can make room in the window.
        self._publish(one, may_wait=False)

    def _ack_unrecorded(self, one: DeliveryLifecycle) -> None:
        if self._recorder is not None:
            self._recorder.drop(str(one.problem))
        self._ack(one)

    def _ack(self, one: DeliveryLifecycle) -> None:
        if one.failure is not None:
            one.failure.report(self._log, one.message)
        one.delivery.ack()
        self._close(one, is_handled=True)

    def _reject(self, one: DeliveryLifecycle) -> None:
        # The broker dead-letters the original, as it is, without our reason among its headers.
        if one.failure is not None:
            one.failure.report(self._log, one.message, no_copy=one.problem)
        one.delivery.reject()
        self._close(one, is_handled=True)

    def _report_missing(self, one: DeliveryLifecycle) -> None:
        # A retry queue or the dead-letter queue is gone, as somebody deleted it. The message stays the broker's.
        self._close(one)
        self._on_missing(str(one.problem))

    def _close(self, _: DeliveryLifecycle, *, is_handled: bool = False) -> None:
        with self._lock:
            self._open -= 1
            self._record.in_hand(self._open)
            if is_handled:
                self._handled += 1
                self._record.handled(self._handled)
        # ``stop`` sets the flag before it first checks the counter, so one of the two threads sees the other's change.
        if self._stopping and self._open == 0:
            with self._idle:
                self._idle.notify_all()
