"""The recording of a worker's steps in shared memory. Steps with attempt reports are not recorded."""

from __future__ import annotations

from time import time_ns

from runner.config.value import format_duration
from runner.headers import SENT_AT, milliseconds_of, name_of
from runner.ipc.step_memory import DEAD_LETTERED, DELIVERED, HANDLED, PUBLISHED, REJECTED, RETRIED, StepMemory
from runner.messages import ATTEMPT_TYPE, Event, Message
from runner.worker.delivery import DeliveryLifecycle


class StepRecorder:
    """The recorder of the steps of one worker. Any thread may call the methods."""

    def __init__(self, memory: StepMemory, quiet_queue: str) -> None:
        """``quiet_queue`` is the queue for attempt reports, or empty if no service records attempts."""
        self._record, self._quiet_queue = memory.record, quiet_queue
        self.unacked = memory.unacked

    def delivered(self, message: Message) -> None:
        """Record the begin of an attempt, and for a first attempt the time since the message was sent."""
        if self._is_report(message):
            return
        now, waited = time_ns(), None
        if message.attempt == 1 and not message.redelivered:
            sent_at = milliseconds_of(message.headers.get(SENT_AT))
            # The sender's clock may be ahead of this machine's clock.
            waited = None if sent_at is None else now / 1e9 - sent_at / 1e3
        self._record((DELIVERED, message.queue, "", ""), message.correlation_id, message.attempt, now, waited)

    def finished(self, one: DeliveryLifecycle) -> None:
        """Record the outcome of an attempt whose message was acknowledged."""
        failure = one.failure
        if failure is None:
            self._outcome(one, HANDLED, "")
        elif failure.delay is None:
            self._outcome(one, DEAD_LETTERED, "")
        else:
            self._outcome(one, RETRIED, format_duration(failure.delay))

    def rejected(self, one: DeliveryLifecycle) -> None:
        """Record the outcome of an attempt whose message the broker dead-letters, because it cannot be copied."""
        self._outcome(one, REJECTED, "")

    def _outcome(self, one: DeliveryLifecycle, kind: int, key: str) -> None:
        message = one.message
        if not self._is_report(message):
            edge = (kind, message.queue, key, "")
            self._record(edge, message.correlation_id, message.attempt, time_ns(), one.handler_time)

    def _is_report(self, message: Message) -> bool:
        # A message of this type in any other queue was not published by a worker.
        return message.type == ATTEMPT_TYPE and message.queue == self._quiet_queue

    def published(self, event: Event, sent_at: int, attempt: int = 0) -> None:
        """Record an event that the broker has confirmed.

        ``sent_at`` is the time in nanoseconds at which the event was sent, because the confirm may arrive after the
        event's delivery. ``attempt`` is the attempt of the message that caused the event, or 0 for an event without
        such a message.
        """
        edge = (PUBLISHED, event.exchange or "", event.routing_key or "", event.type)
        try:
            self._record(edge, event.correlation_id or "", attempt, sent_at)
        except AttributeError:
            # AMQP accepts bytes for a name that is not UTF-8. An error here would prevent the ack of a message.
            other, key, name = map(name_of, edge[1:])
            self._record((PUBLISHED, other, key, name), name_of(event.correlation_id), attempt, sent_at)
