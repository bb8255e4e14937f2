"""Events to AMQP properties, and deliveries to messages.

``type``, ``message_id``, ``correlation_id``, ``timestamp``, ``app_id`` and ``content_type`` are AMQP's own
properties; the causing message's id, for which AMQP has none, is the header ``x-causation-id``.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import pika

from runner.amqp.content import Properties, write_properties
from runner.amqp.frames import HEADER_OVERHEAD
from runner.config.value import check_short
from runner.messages import (
    ATTEMPT,
    CAUSATION,
    MADE_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    REDELIVERED,
    SENT_AT,
    Event,
    Message,
    name_based_id,
)

#: AMQP 0-9-1 delivery mode of a message that survives a restart of the broker.
PERSISTENT = 2
#: The properties that a copy keeps; the headers are apart, and the broker takes a user id only from that user
#: (RabbitMQ: "Validated User-ID").
PROPERTIES = (
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
    "message_id", "timestamp", "type", "app_id", "cluster_id",
)  # fmt: skip
#: Bytes; RabbitMQ 4 closes the channel on a larger message (its ``max_message_size``).
MAX_BODY = 16 * 1024 * 1024

#: Bytes; RabbitMQ closes the connection on a larger frame (its ``frame_max``), and all headers are in one.
MAX_FRAME = 131_072


def properties_of(event: Event) -> Properties:
    """The AMQP properties of an event; always persistent. Raises what pika raises for what does not fit."""
    now = time.time()
    headers = {**event.headers, SENT_AT: int(now * 1000)}
    if event.causation_id:
        headers[CAUSATION] = event.causation_id
    encoded = write_properties(
        {
            "content_type": event.content_type,
            "headers": headers,
            "delivery_mode": PERSISTENT,
            "correlation_id": event.correlation_id,
            "message_id": event.id,
            "timestamp": int(now) if event.timestamp is None else event.timestamp,
            "type": event.type,
            "app_id": event.app_id,
        }
    )
    return Properties(encoded)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event in AMQP's form, known to fit: pika encodes on the I/O thread, which must not fail."""

    event: Event
    body: bytes
    properties: Properties

    @property
    def key(self) -> tuple[str | None, str, str]:
        """What the broker tells of a message that it returns."""
        return (self.event.id, self.event.exchange or "", self.event.routing_key or "")


def encode(event: Event, *, is_copy: bool = False) -> Encoded:
    """Encode an event, or the copy of a message that the broker has taken already, whatever its size.

    Raises ValueError or TypeError, saying what does not fit AMQP or JSON.
    """
    body = event.encoded()
    if len(body) > MAX_BODY and not is_copy:
        raise ValueError(f"event {event.type!r}: its body is too large, {len(body)} bytes; allowed: {MAX_BODY}")
    check_short(event.exchange or "")
    check_short(event.routing_key or "")
    try:
        properties = properties_of(event)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"event {event.type!r}: a property does not fit AMQP, {reason}") from error
    if (size := len(properties.encoded) + HEADER_OVERHEAD) > MAX_FRAME:
        raise ValueError(f"event {event.type!r}: its headers are too large, {size} bytes; allowed: {MAX_FRAME}")
    return Encoded(event, body, properties)


def _id_of(routing_key: str, properties: pika.BasicProperties, body: bytes) -> str:
    """An id for a message without one, the same whenever it is delivered again."""
    seed = f"{routing_key}/{properties.timestamp}/{hashlib.sha256(body).hexdigest()}"
    return name_based_id(seed)


def _text(value: Any) -> str:
    """A short string as text; AMQP asks for UTF-8, and not every sender knows."""
    if type(value) is str:  # nearly always
        return value
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value or "")


def message_of(method: Any, properties: pika.BasicProperties, body: bytes, queue: str) -> Message:
    """The message in a ``basic.deliver``; its body is not looked at."""
    headers = properties.headers or {}
    attempt = headers.get(ATTEMPT)
    # A retried message comes through the default exchange; a handler sees where it was first published.
    origin = headers if ORIGIN_EXCHANGE in headers else {}
    return Message(
        body=body,
        queue=queue,
        type=_text(properties.type),
        id=_text(properties.message_id) or _id_of(method.routing_key, properties, body),
        has_own_id=bool(properties.message_id) and headers.get(MADE_ID) is not True,
        correlation_id=_text(properties.correlation_id),
        causation_id=_text(headers.get(CAUSATION)),
        exchange=_text(origin.get(ORIGIN_EXCHANGE, method.exchange)),
        routing_key=_text(origin.get(ORIGIN_KEY, method.routing_key)),
        headers=headers,
        content_type=_text(properties.content_type),
        timestamp=properties.timestamp,
        app_id=_text(properties.app_id),
        redelivered=method.redelivered or headers.get(REDELIVERED) is True,
        attempt=attempt if isinstance(attempt, int) and attempt > 0 else 1,
    )
