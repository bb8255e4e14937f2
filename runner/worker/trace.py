"""A note of each try of each message: who had it, how long it waited and took, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from runner.amqp.properties import Encoded, encode
from runner.headers import REPLAYED_AT, SENT_AT, milliseconds_of
from runner.messages import ATTEMPT_TYPE, Event, Message, name_based_id


@dataclass(frozen=True)
class Try:
    """What became of one try; times in milliseconds since the epoch."""

    began_at: int
    ended_at: int
    #: ``handled``, ``duplicate``, ``retried`` or ``parked``.
    outcome: str
    #: Why it failed, and how many milliseconds until the next try.
    error: str | None = None
    delay: int | None = None


class Tracer:
    """Writes the notes of one worker."""

    def __init__(self, service: str, instance: str, queue: str) -> None:
        """``queue`` is where the notes go, by the default exchange."""
        self._service, self._instance, self._queue = service, instance, queue

    def note(self, message: Message, one: Try) -> Encoded:
        """The note, ready to be sent, with an id of this try alone."""
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
            "outcome": one.outcome,
            "error": one.error,
            "delay": one.delay,
            "sent_at": milliseconds_of(message.headers.get(SENT_AT)),
            "began_at": one.began_at,
            "ended_at": one.ended_at,
            "redelivered": message.redelivered,
            "replayed_at": milliseconds_of(message.headers.get(REPLAYED_AT)),
        }
        # Each time that a handler had the message is one of its own, also of the same delivery.
        which = f"{message.queue}/{message.id}/{self._instance}/{one.began_at}"
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
