"""One message's way through a worker: delivery, handler, events, confirms, ack."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from runner.amqp.consumer import Delivery
from runner.amqp.properties import Encoded, encode
from runner.config.value import format_duration
from runner.errors import BrokerError, PluginError, Unroutable
from runner.messages import Message, Reject, Retry, caused_by, events_of
from runner.record import Record
from runner.topology.model import Ladder
from runner.worker.recovery import delay_before, recovered, shortened
from runner.worker.routing import Router

#: Seconds until events that the broker did not take are published again; doubled each time up to the second number.
REPUBLISH_DELAY, LONGEST_DELAY = 0.5, 10.0
#: Seconds before it is said again that events are not published.
SAY_AGAIN = 10.0


@dataclass
class _Work:
    """A delivery, and once its handler is through, the events that must be confirmed before its ack."""

    delivery: Delivery
    message: Message | None = None
    events: Sequence[Encoded] | None = None
    #: What an event of its handler met with; the message takes its ladder.
    failure: BaseException | None = None
    is_recovery: bool = False
    #: What is said of the message once all is confirmed.
    told: Callable[[], None] | None = None
    #: How often its events were published in vain.
    tries: int = 0


class Pipeline:
    """Handles deliveries on ``concurrency`` threads.

    A handler thread does not wait for confirms: the last confirm of a message acknowledges it, and the next
    message is handled meanwhile.
    """

    def __init__(
        self,
        service: str,
        handle: Callable[[Message], object],
        send: Callable[[Encoded], Future[None]],
        call_later: Callable[[float, Callable[[], None]], None],
        router: Router,
        ladders: dict[str, Ladder],
        log: logging.Logger,
        on_missing: Callable[[str], None],
        on_crash: Callable[[], None],
        record: Record,
    ) -> None:
        self._service, self._handle, self._send = service, handle, send
        self._call_later, self._router, self._ladders, self._log = call_later, router, ladders, log
        self._on_missing, self._on_crash, self._record = on_missing, on_crash, record
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._stopping = False
        self._say_again = 0.0
        self._open = self._handled = 0
        #: What each handler thread is at, and since when.
        self._at_work: dict[int, tuple[float, Message]] = {}
        self._idle = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self, concurrency: int) -> None:
        """Start the handler threads."""
        for number in range(concurrency):
            thread = threading.Thread(target=self._run, name=f"handler-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, delivery: Delivery) -> None:
        """Take a delivery; never blocks."""
        with self._idle:
            self._open += 1
            self._record.in_hand(self._open)
        self._queue.put(_Work(delivery))

    def stop(self, timeout: float) -> bool:
        """Finish the messages that a handler has begun; True when all of them are answered within ``timeout`` s.

        Those that no handler has begun go back to the broker when the channel closes.
        """
        self._stopping = True
        with self._idle:
            is_idle = self._idle.wait_for(lambda: self._open == 0, timeout)
        for _ in self._threads:
            self._queue.put(None)
        return is_idle

    def overdue(self, now: float, timeout: float) -> str | None:
        """In words, a message that a handler has been at for longer than ``timeout`` s; None where there is none."""
        for since, message in list(self._at_work.values()):
            if now - since > timeout:
                what = f"message {message.id or 'without id'} of {message.queue}"
                return f"a handler has been at {what} for {now - since:.1f} s, over its handler_timeout"
        return None

    def _run(self) -> None:
        try:
            while (work := self._queue.get()) is not None:
                if not work.delivery.is_alive or (self._stopping and work.events is None):
                    self._close()
                else:
                    self._step(work)
        except BaseException:  # noqa: BLE001 - told of, and the worker ends
            # A worker without its handler threads would look well and do nothing.
            self._log.exception("a handler thread ended by an error of its own")
            self._on_crash()

    def _step(self, work: _Work) -> None:
        if work.message is None:
            work.message = work.delivery.message()
        try:
            if work.failure is not None:
                failure, work.failure = work.failure, None
                raise failure
            if work.events is None:
                work.events = self._outcome(work.message)
            self._publish_all(work, work.events)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises leads to the retry ladder
            self._recover(work, work.message, error)

    def _outcome(self, message: Message) -> list[Encoded]:
        thread = threading.get_ident()
        self._at_work[thread] = (time.monotonic(), message)
        try:
            # All are encoded before any is sent, so that no half of a handler's events goes out.
            return [
                encode(self._router.routed(caused_by(message, event, index, self._service)))
                for index, event in enumerate(events_of(self._handle(message)))  # type: ignore[arg-type]
            ]
        finally:
            del self._at_work[thread]

    def _recover(self, work: _Work, message: Message, error: BaseException) -> None:
        ladder = self._ladders[message.queue]
        delay = delay_before(message, ladder, error)
        attempt = f"attempt {message.attempt} of {len(ladder.steps) + 1}"
        is_expected = isinstance(error, Retry | Reject | BrokerError | PluginError)
        about: dict[str, Any] = {"extra": {"order": message.correlation_id or None}}
        if not is_expected:
            about["exc_info"] = error
        words = shortened(error)
        try:
            work.events = [encode(recovered(message, ladder, error, self._service), is_copy=True)]
        except Exception as unfit:  # noqa: BLE001 - whatever a sender wrote that no client can write again
            # The broker parks the original, as it is, without our reason among its headers.
            self._log.error(
                "%s failed, %s: parked in %s by the broker, since no copy can be made: %s",
                attempt, words, ladder.dead_letter, shortened(unfit), **about,
            )  # fmt: skip
            work.delivery.reject()
            self._close(is_handled=True)
            return
        if delay is None:
            work.told = partial(
                self._log.error, "%s failed, %s: parked in %s", attempt, words, ladder.dead_letter, **about
            )
        else:
            when = format_duration(delay)
            work.told = partial(self._log.warning, "%s failed, %s: again in %s", attempt, words, when, **about)
        work.is_recovery = True
        self._publish_all(work, work.events)

    def _publish_all(self, work: _Work, events: Sequence[Encoded]) -> None:
        if not events:
            self._ack(work)
            return
        lock, left = threading.Lock(), len(events)
        failed: list[tuple[Encoded, BaseException]] = []

        def confirmed(event: Encoded, future: Future[None]) -> None:
            nonlocal left
            error = future.exception()
            with lock:
                left -= 1
                if error is not None:
                    failed.append((event, error))
                if left:
                    return
            if not failed:
                self._ack(work)
            else:
                self._unpublished(work, failed)

        for event in events:
            self._send(event).add_done_callback(partial(confirmed, event))

    def _unpublished(self, work: _Work, failed: list[tuple[Encoded, BaseException]]) -> None:
        unroutable = next((error for _, error in failed if isinstance(error, Unroutable)), None)
        if unroutable is not None and work.is_recovery:
            # A wait queue or the dead-letter queue is gone, as somebody deleted it. The message stays the broker's.
            self._close()
            self._on_missing(str(unroutable))
            return
        if unroutable is not None:
            # No queue for an event is a fault of this message's way, not of the broker: it takes the ladder.
            # On a handler thread, because this may be the I/O thread, which must not wait for its own confirms.
            work.failure = unroutable
            self._queue.put(work)
            return
        # The same events with the same ids, until the broker takes them or takes the delivery back.
        work.events = [event for event, _ in failed]
        delay = min(REPUBLISH_DELAY * 2.0 ** min(work.tries, 10), LONGEST_DELAY)
        work.tries += 1
        now = time.monotonic()
        if now >= self._say_again:
            # One line for all that are in hand, or a broker that is away for long would fill the log.
            self._say_again = now + SAY_AGAIN
            self._log.warning("not published, %s: tried again until it is", failed[0][1])
        self._call_later(delay, lambda: self._queue.put(work))

    def _ack(self, work: _Work) -> None:
        if work.told is not None:
            work.told()
        work.delivery.ack()
        self._close(is_handled=True)

    def _close(self, *, is_handled: bool = False) -> None:
        with self._idle:
            self._open -= 1
            self._record.in_hand(self._open)
            if is_handled:
                self._handled += 1
                self._record.handled(self._handled)
            if self._open == 0:
                self._idle.notify_all()
