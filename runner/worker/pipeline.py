"""One message's way through a worker: delivery, handler, commit, events, confirms, ack."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from runner.amqp.consumer import Delivery
from runner.amqp.properties import Encoded, encode, encode_copy
from runner.config.value import format_duration
from runner.errors import BrokerError, EventTooLarge, PluginError, StoreAway
from runner.ipc.shared_memory import SharedMemory
from runner.messages import Event, Message, Reject, Retry, caused_by, events_of
from runner.topology.model import Ladder
from runner.worker.crash import Crashed, Hands
from runner.worker.intake import Intake, Outcome
from runner.worker.publishing import Publishing
from runner.worker.recovery import delay_before, recovered, shortened
from runner.worker.routing import EventRouter
from runner.worker.storage import MessageStore
from runner.worker.trace import Tracer, Try
from runner.worker.work import Work

#: Seconds below which a ``consumer_timeout`` is not assumed to be the reason of a cancelled consumer; RabbitMQ advises
#: against less than a minute (RabbitMQ: "Consumers", delivery acknowledgement timeout).
SHORTEST_TIMEOUT = 1.0
#: The part of a ``consumer_timeout`` that a delivery may spend on its way to the worker. The broker counts it too.
TIMEOUT_TOLERANCE = 0.1


class Pipeline:
    """Handles deliveries on ``concurrency`` threads.

    A handler thread does not wait for commits or confirms: the last confirm of a message acknowledges it, and the next
    message is handled meanwhile.
    """

    def __init__(
        self,
        service: str,
        handle: Callable[[Message, MessageStore], object],
        send: Callable[..., None],
        call_later: Callable[[float, Callable[[], None]], None],
        router: EventRouter,
        ladders: dict[str, Ladder],
        log: logging.Logger,
        on_missing: Callable[[str], None],
        on_crash: Callable[[], None],
        record: SharedMemory,
        hands: Hands,
        intake: Intake,
        tracer: Tracer | None,
    ) -> None:
        self._service, self._handle = service, handle
        self._router, self._ladders, self._log = router, ladders, log
        self._on_missing, self._on_crash, self._record = on_missing, on_crash, record
        self._hands, self._intake = hands, intake
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._publishing = Publishing(send, call_later, tracer, log, self._ack, self._hopeless, self._queue.put)
        self._stopping = False
        self._open = self._handled = 0
        #: The message of each handler thread, when it was delivered, and when its handler began.
        self._at_work: dict[int, tuple[Message, float, float]] = {}
        self._idle = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self, concurrency: int) -> None:
        """Start the handler threads."""
        for number in range(concurrency):
            thread = threading.Thread(target=self._run, args=(number,), name=f"handler-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, delivery: Delivery) -> None:
        """Take a delivery; never blocks."""
        with self._idle:
            self._open += 1
            self._record.in_hand(self._open)
        self._queue.put(Work(delivery, time.monotonic()))

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
        for message, _, since in list(self._at_work.values()):
            if now - since > timeout:
                return f"{_held(message, now - since)}, over its handler_timeout"
        return None

    def unacknowledged(self, queue: str, now: float, timeout: float | None = None) -> str | None:
        """Describe the message whose handler exceeded the broker's ``consumer_timeout``; return None if there is none.

        ``queue`` is its queue, or "" for any, and ``timeout`` that time in seconds. If it is unknown, the message that
        was delivered first is meant. A message that waited here for longer than its handler has run may be handled in
        time at its next delivery.
        """
        at_work = [one for one in list(self._at_work.values()) if queue in ("", one[0].queue)]
        oldest = max((now - delivered for _, delivered, _ in at_work), default=0.0)
        least = (oldest if timeout is None else timeout) * (1 - TIMEOUT_TOLERANCE)
        held = [
            (now - since, message)
            for message, delivered, since in at_work
            if now - delivered >= least and now - since >= max(SHORTEST_TIMEOUT, (now - delivered) / 2)
        ]
        longest, message = max(held, key=lambda one: one[0], default=(0.0, None))
        return None if message is None else f"{_held(message, longest)}, over the broker's consumer_timeout"

    def _run(self, hand: int) -> None:
        try:
            while (work := self._queue.get()) is not None:
                is_begun = work.events is not None or work.failure is not None
                if not work.delivery.is_alive or (self._stopping and not is_begun):
                    self._close()
                else:
                    self._step(hand, work)
        except BaseException:  # noqa: BLE001 - told of, and the worker ends
            # A worker without its handler threads would look well and do nothing.
            self._log.exception("a handler thread ended by an error of its own")
            self._on_crash()

    def _step(self, hand: int, work: Work) -> None:
        if work.message is None:
            work.message = work.delivery.message()
        try:
            if work.failure is not None:
                failure, work.failure = work.failure, None
                raise failure
            if work.delivery.problem is not None:
                raise Reject(work.delivery.problem)
            if work.events is None:
                self._begin(hand, work, work.message)
            else:
                self._publishing.publish(work, work.events)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises leads to the retry ladder
            self._recover(work, work.message, error)

    def _begin(self, hand: int, work: Work, message: Message) -> None:
        try:
            found = self._intake.begin(message, partial(self._queue.put, work))
        except StoreAway as error:
            self._publishing.wait(error, work)
            return
        if isinstance(found, Outcome):
            now = _milliseconds()
            work.attempt = Try(now, now, "duplicate")
            self._publishing.publish(work, self._again(found))
        elif found:
            try:
                self._run_handler(hand, work, message)
            except StoreAway as error:
                self._intake.end(message)
                self._publishing.wait(error, work)
            except BaseException:
                self._intake.end(message)
                raise

    def _run_handler(self, hand: int, work: Work, message: Message) -> None:
        began_at, store = _milliseconds(), self._intake.store_for()
        work.attempt = Try(began_at, began_at, "handled")
        try:
            with self._hands.at(hand, message):
                self._at_work[hand] = (message, work.delivered_at, time.monotonic())
                try:
                    # All are encoded before any is sent, so that no half of a handler's events goes out.
                    events = [
                        self._router.routed(caused_by(message, event, index, self._service))
                        for index, event in enumerate(events_of(self._handle(message, store)))  # type: ignore[arg-type]
                    ]
                    encoded = [encode(event) for event in events]
                finally:
                    del self._at_work[hand]
        finally:
            work.attempt = Try(began_at, _milliseconds(), "handled")
        self._commit(work, message, store, events, encoded)

    def _commit(
        self, work: Work, message: Message, store: MessageStore, events: Sequence[Event], encoded: Sequence[Encoded]
    ) -> None:
        future = self._intake.commit(message, store, events)
        if future is None:
            self._intake.end(message)
            self._publishing.publish(work, encoded)
            return

        def committed(future: Future[Outcome]) -> None:
            # On the store's thread, so that a slow handler holds back nobody's events.
            self._intake.end(message)
            try:
                outcome = future.result()
                if outcome.is_earlier and work.attempt is not None:
                    work.attempt = replace(work.attempt, outcome="duplicate")
                events = self._again(outcome) if outcome.is_earlier else encoded
                self._publishing.publish(work, events, may_wait=False)
            except StoreAway as error:
                if self._stopping:
                    self._close()  # the broker keeps the message
                else:
                    self._publishing.wait(error, work)
            except BaseException as error:  # noqa: BLE001 - whatever the database says of the handler's own writes
                work.failure = error
                self._queue.put(work)

        future.add_done_callback(committed)

    def _again(self, outcome: Outcome) -> list[Encoded]:
        """The events of an earlier delivery; since then the service may have lost the right to an exchange."""
        return [encode(self._router.routed(event)) for event in outcome.events]

    def _recover(self, work: Work, message: Message, error: BaseException) -> None:
        if not work.delivery.is_alive:
            self._close()  # the broker delivers it again, and a copy would make two of it
            return
        ladder = self._ladders[message.queue]
        delay = delay_before(message, ladder, error)
        what = f"order {message.correlation_id}" if message.correlation_id else f"message {message.id}"
        tried = "" if isinstance(error, Crashed) else f"attempt {message.attempt} of {len(ladder.steps) + 1} failed, "
        attempt = f"{what}: {tried}"
        is_expected = isinstance(error, Retry | Reject | BrokerError | PluginError)
        about: dict[str, Any] = {"extra": {"order": message.correlation_id or None}}
        if not is_expected:
            about["exc_info"] = error
        words = shortened(error)
        outcome, until = ("parked", None) if delay is None else ("retried", round(delay * 1000))
        now = _milliseconds()
        if work.attempt is None or isinstance(error, Crashed):
            work.attempt = Try(now, now, "")  # no handler had it this time
        work.attempt = replace(work.attempt, outcome=outcome, error=words, delay=until)
        try:
            copy = encode_copy(recovered(message, ladder, error, self._service), work.delivery.properties)
        except Exception as unfit:  # noqa: BLE001 - whatever a sender wrote that no client can write again
            # The broker parks the original, as it is, without our reason among its headers.
            self._log.error(
                "%s%s: parked in %s by the broker, since no copy can be made: %s",
                attempt, words, ladder.dead_letter, shortened(unfit), **about,
            )  # fmt: skip
            work.delivery.reject()
            self._close(is_handled=True)
            return
        if delay is None:
            work.told = partial(self._log.error, "%s%s: parked in %s", attempt, words, ladder.dead_letter, **about)
        else:
            when = format_duration(delay)
            work.told = partial(self._log.warning, "%s%s: again in %s", attempt, words, when, **about)
        work.is_recovery = True
        self._publishing.publish(work, [copy])

    def _hopeless(self, work: Work, error: BrokerError) -> None:
        if work.is_recovery and isinstance(error, EventTooLarge):
            # The broker took the message before its limit was lowered, and dead-letters it without another publish.
            self._log.error("%s: dead-lettered by the broker, since no copy can be published", error)
            work.delivery.reject()
            self._close(is_handled=True)
            return
        if work.is_recovery:
            # A wait queue or the dead-letter queue is gone, as somebody deleted it. The message stays the broker's.
            self._close()
            self._on_missing(str(error))
            return
        # No queue for an event, or its size, is a fault of this message, not of the broker: it takes the ladder.
        # On a handler thread, because this may be the I/O thread, which must not wait for its own confirms.
        work.failure = error
        self._queue.put(work)

    def _ack(self, work: Work) -> None:
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


def _held(message: Message, seconds: float) -> str:
    return f"a handler has been at message {message.id or 'without id'} of {message.queue} for {seconds:.1f} s"


def _milliseconds() -> int:
    return int(time.time() * 1000)
