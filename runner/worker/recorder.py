"""Attempt reports, which contain the instance, times and outcome of each attempt."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from runner.amqp.properties import Encoded, encode
from runner.headers import REPLAYED_AT, SENT_AT, milliseconds_of
from runner.logs import Repeated
from runner.messages import ATTEMPT_TYPE, Event, name_based_id
from runner.worker.crash_protection import Crashed
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.handler import Handler


class AttemptRecorder:
    """A wrapper that times each attempt and creates the attempt report."""

    def __init__(
        self,
        service: str,
        instance: str,
        queue: str,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``queue`` receives the reports through the default exchange. ``clock`` returns seconds since the epoch."""
        self._service, self._instance, self._queue, self._clock = service, instance, queue, clock
        self._dropped, self._warning = 0, Repeated(log, monotonic)

    def around(self, handler: Handler) -> Handler:
        """Return a handler that records the start and end of ``handler``."""

        def timed(one: DeliveryLifecycle) -> DeliveryEvent:
            began_at = self._milliseconds()
            try:
                return handler(one)
            finally:
                one.times = began_at, self._milliseconds()

        return timed

    def report(self, one: DeliveryLifecycle) -> Encoded | None:
        """Return the encoded report of an attempt, with a unique id, or None if the report cannot be encoded."""
        message, failure = one.message, one.failure
        outcome, delay = "duplicate" if one.is_duplicate else "handled", None
        if failure is not None:
            is_final = failure.delay is None
            outcome, delay = ("dead_lettered", None) if is_final else ("retried", round((failure.delay or 0.0) * 1000))
        times = one.times
        if times is None or (failure is not None and isinstance(failure.error, Crashed)):
            now = self._milliseconds()
            times = now, now  # no handler was called in this attempt
        order_id = message.correlation_id or None
        body = {
            "order_id": order_id,
            "message_id": message.id,
            "message_type": message.type,
            "queue": message.queue,
            "service": self._service,
            "instance": self._instance,
            "attempt": message.attempt,
            "replays": message.replays,
            "outcome": outcome,
            "error": None if failure is None else failure.text,
            "delay": delay,
            "sent_at": milliseconds_of(message.headers.get(SENT_AT)),
            "began_at": times[0],
            "ended_at": times[1],
            "redelivered": message.redelivered,
            "replayed_at": milliseconds_of(message.headers.get(REPLAYED_AT)),
            "pid": os.getpid(),
        }
        # Each run of the handler is a separate attempt, even for the same delivery.
        which = f"{message.queue}/{message.id}/{self._instance}/{times[0]}"
        try:
            return encode(
                Event(
                    ATTEMPT_TYPE,
                    body,
                    exchange="",
                    routing_key=self._queue,
                    id=name_based_id(which),
                    correlation_id=order_id,
                    causation_id=message.id,
                    app_id=self._service,
                )
            )
        except Exception as error:  # noqa: BLE001 - a sender can write values that no report can contain
            self.drop(f"cannot encode the report, {error}")
            return None

    def drop(self, why: str) -> None:
        """Count and log a lost report. A report must not prevent the acknowledgement of its message."""
        self._dropped += 1
        count = "1 attempt report" if self._dropped == 1 else f"{self._dropped} attempt reports"
        self._warning.warn(f"event history: {count} dropped; last reason: {why}")

    def _milliseconds(self) -> int:
        return int(self._clock() * 1000)
