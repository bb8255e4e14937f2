"""The recording of a worker's steps in shared memory. Steps with attempt reports are not recorded.

Each message passes through this code, so the usual path contains no lock, no clock and few calls. Times and the ring of
steps cost more. Therefore not every attempt is timed (see ``HandlerTimes``), and the ring is filled only while the
supervisor reads it.
"""

from __future__ import annotations

from time import monotonic, time, time_ns

from runner.config.value import format_duration
from runner.headers import SENT_AT, milliseconds_of, name_of
from runner.ipc.step_memory import (
    DEAD_LETTERED,
    DELIVERED,
    HANDLED,
    MAX_EDGES,
    PUBLISHED,
    REJECTED,
    RETRIED,
    StepMemory,
)
from runner.messages import ATTEMPT_TYPE, Event, Message
from runner.worker.delivery import DeliveryLifecycle


class StepRecorder:
    """The recorder of the steps of one worker. Any thread may call the methods."""

    def __init__(self, memory: StepMemory, quiet_queue: str) -> None:
        """``quiet_queue`` is the queue for attempt reports, or empty if no service records attempts."""
        self._memory, self._counts, self._quiet_queue = memory, memory.counts, quiet_queue
        self.unacked = memory.unacked
        #: The edge numbers of each queue, and of each exchange, routing key and event type.
        self._delivered: dict[str, int] = {}
        self._handled: dict[str, int] = {}
        self._published: dict[tuple[str | None, str | None, str], int] = {}
        #: True if the supervisor reads the ring.
        self.is_watched = False

    def look(self) -> None:
        """Update ``is_watched``."""
        self.is_watched = self._memory.is_watched

    def delivered(self, message: Message) -> None:
        """Record the start of an attempt."""
        queue = message.queue
        if queue == self._quiet_queue and message.type == ATTEMPT_TYPE:
            return
        number = self._delivered.get(queue)
        if number is None:
            number = self._delivered[queue] = self._memory.number((DELIVERED, queue, "", ""))
        self._counts[number] += 1
        if self._memory.is_watched:
            self.is_watched = True
            self._memory.list_step(number, message.correlation_id, message.attempt, time_ns())
        else:
            self.is_watched = False

    def finished(self, one: DeliveryLifecycle) -> None:
        """Record the outcome of an attempt whose message was acknowledged."""
        message = one.message
        queue = message.queue
        if queue == self._quiet_queue and message.type == ATTEMPT_TYPE:
            return
        failure = one.failure
        if failure is None:
            number = self._handled.get(queue)
            if number is None:
                number = self._handled[queue] = self._memory.number((HANDLED, queue, "", ""))
        elif failure.delay is None:
            number = self._memory.number((DEAD_LETTERED, queue, "", ""))
        else:
            number = self._memory.number((RETRIED, queue, format_duration(failure.delay), ""))
        self._add(one, number)

    def rejected(self, one: DeliveryLifecycle) -> None:
        """Record the outcome of an attempt whose message the broker dead-letters, because it cannot be copied."""
        message = one.message
        # A message of this type in any other queue was not published by a worker.
        if message.queue != self._quiet_queue or message.type != ATTEMPT_TYPE:
            self._add(one, self._memory.number((REJECTED, message.queue, "", "")))

    def _add(self, one: DeliveryLifecycle, number: int) -> None:
        self._counts[number] += 1
        if one.handler_time is not None:
            self._add_times(one.message, one.handler_started, one.handler_time)
        if self.is_watched:
            self._memory.list_step(number, one.message.correlation_id, one.message.attempt, time_ns())

    def _add_times(self, message: Message, started: float, handler_time: float) -> None:
        """Add the handler's time, and for a first attempt the time between the sending and the handler's start."""
        self._memory.add_time(message.queue, handler_time, is_handler=True)
        if message.attempt == 1 and not message.redelivered:
            sent_at = milliseconds_of(message.headers.get(SENT_AT))
            if sent_at is not None:
                waited = time() - (monotonic() - started) - sent_at / 1000
                self._memory.add_time(message.queue, waited, is_handler=False)

    def published(self, event: Event, sent_at: int, attempt: int = 0) -> None:
        """Record an event that the broker has confirmed.

        ``sent_at`` is the time in nanoseconds at which the event was sent, because the confirm may arrive after the
        event's delivery. 0 stands for an unknown time. ``attempt`` is the attempt of the message that caused the event,
        or 0 for an event without such a message.
        """
        edge = (event.exchange, event.routing_key, event.type)
        number = self._published.get(edge)
        if number is None:
            # AMQP accepts bytes for a name that is not UTF-8. An error here would prevent the ack of a message.
            other, key, name = map(name_of, edge)
            number = self._memory.number((PUBLISHED, other, key, name))
            if len(self._published) < MAX_EDGES:
                self._published[edge] = number
        self._counts[number] += 1
        if self.is_watched:
            self._memory.list_step(number, name_of(event.correlation_id), attempt, sent_at or time_ns())
