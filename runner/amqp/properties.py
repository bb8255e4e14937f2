"""Events to AMQP properties, and deliveries to messages.

``type``, ``message_id``, ``correlation_id``, ``timestamp``, ``app_id`` and ``content_type`` are AMQP's own
properties; the causing message's id, for which AMQP has none, is the header ``x-causation-id``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.amqp.wire.frame_codec import HEADER_OVERHEAD
from runner.amqp.wire.property_codec import FLAGS, Properties
from runner.config.value import check_short
from runner.headers import (
    ATTEMPT,
    CAUSATION,
    DRAIN_EXPIRATION,
    MADE_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    REDELIVERED,
    SENT_AT,
    copy_headers,
    count_of,
    from_sender,
    name_of,
    renamed_headers,
    seconds_of,
    short_of,
    with_original,
)
from runner.messages import Event, Message, name_based_id

#: AMQP 0-9-1 delivery mode of a message that survives a restart of the broker.
PERSISTENT = 2
#: Properties of the first publish that a copy does not repeat. RabbitMQ too removes the time to live when it
#: dead-letters a message ("Time-To-Live and Expiration"). It accepts a user id only from that user ("Validated
#: User-ID").
_NOT_COPIED = ("expiration", "user_id")
#: A message's properties, except its headers.
PROPERTIES = tuple(name for name in FLAGS if name != "headers")
#: A timestamp below this number is in seconds; the number is the year 2286.
_SOON = 10**10
#: Bytes; RabbitMQ 4 closes the channel on a larger message (its ``max_message_size``).
MAX_BODY = 16 * 1024 * 1024

#: Bytes; RabbitMQ closes the connection on a larger frame (its ``frame_max``), and all headers are in one.
MAX_FRAME = 131_072


def properties_of(event: Event) -> Properties:
    """The AMQP properties of an event; always persistent. Raises Unencodable for a value that does not fit."""
    now = time.time()
    headers = {**event.headers, SENT_AT: int(now * 1000)}
    if event.causation_id:
        headers[CAUSATION] = event.causation_id
    return Properties.of(
        content_type=event.content_type,
        headers=headers,
        delivery_mode=PERSISTENT,
        correlation_id=event.correlation_id,
        message_id=event.id,
        timestamp=int(now) if event.timestamp is None else event.timestamp,
        type=event.type,
        app_id=event.app_id,
    )


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event in AMQP's form, known to fit, because the I/O thread that sends it must not fail."""

    event: Event
    body: bytes
    properties: Properties

    @property
    def key(self) -> tuple[str, str, str]:
        """What the broker tells of a message that it returns."""
        return (self.event.id or "", self.event.exchange or "", self.event.routing_key or "")


def encode(event: Event) -> Encoded:
    """Encode an event. Raises ValueError or TypeError, with the value that does not fit AMQP or JSON."""
    body = event.encoded()
    if len(body) > MAX_BODY:
        raise ValueError(f"event {event.type!r}: its body is too large, {len(body)} bytes; allowed: {MAX_BODY}")
    check_short(event.exchange or "")
    check_short(event.routing_key or "")
    try:
        properties = properties_of(event)
    except Exception as error:
        raise ValueError(f"event {event.type!r}: a property does not fit AMQP, {error}") from error
    if (size := len(properties.encoded) + HEADER_OVERHEAD) > MAX_FRAME:
        raise ValueError(f"event {event.type!r}: its headers are too large, {size} bytes; allowed: {MAX_FRAME}")
    return Encoded(event, body, properties)


def encode_copy(event: Event, original: Properties) -> Encoded:
    """Encode the copy of a message that the broker has accepted before, whatever the size of its body.

    All properties are the original's. ``event`` has the body, the exchange and key, the headers, and an id if the
    original has none.
    Raises ValueError for a copy that no client can write.
    """
    headers = {**event.headers, SENT_AT: int(time.time() * 1000)}
    known = {name: getattr(original, name) for name in PROPERTIES}
    known["message_id"] = known["message_id"] or event.id
    return Encoded(event, event.encoded(), copied_properties(known, headers, original.remainder))


def copied_properties(
    known: Mapping[str, Any], headers: dict[Any, Any], remainder: bytes = b"", *, keep_expiration: bool = False
) -> Properties:
    """Return the properties of a copy with these headers: persistent, and otherwise the original's.

    Those that a copy must not repeat are in its header ``x-original``. Raises ValueError for a copy that no client can
    write.
    """
    if remainder:
        raise ValueError(f"no copy can be made: {len(remainder)} bytes of its properties cannot be decoded")
    dropped = [name for name in _NOT_COPIED if name != "expiration" or not keep_expiration]
    original = [(name, known[name]) for name in dropped if known.get(name) is not None]
    if original:
        headers = with_original(headers, original)
    fields = {name: known.get(name) for name in PROPERTIES if name not in dropped}
    try:
        properties = Properties.of(**{**fields, "headers": headers or None, "delivery_mode": PERSISTENT})
    except Exception as error:
        raise ValueError(f"no copy can be made: {error}") from error
    if (size := len(properties.encoded) + HEADER_OVERHEAD) > MAX_FRAME:
        raise ValueError(f"no copy can be made: its headers are too large, {size} bytes; allowed: {MAX_FRAME}")
    return properties


def _id_of(routing_key: str, properties: Properties, body: bytes) -> str:
    """An id for a message without one, the same whenever it is delivered again."""
    seed = f"{routing_key}/{properties.timestamp}/{hashlib.sha256(body).hexdigest()}"
    return name_based_id(seed)


def message_of(method: Any, properties: Properties, body: bytes, queue: str) -> Message:
    """Return the message in a ``basic.deliver``, whatever its sender wrote; the body is not read."""
    headers = properties.headers or {}
    if method.exchange:
        headers = from_sender(headers)
    # A retried message comes through the default exchange; a handler sees where it was first published.
    is_copy = ORIGIN_EXCHANGE in headers
    identity = name_of(properties.message_id)
    timestamp = properties.timestamp
    return Message(
        body=body,
        queue=queue,
        type=name_of(properties.type),
        id=identity or _id_of(name_of(method.routing_key), properties, body),
        has_own_id=bool(identity) and headers.get(MADE_ID) is not True,
        correlation_id=name_of(properties.correlation_id),
        causation_id=short_of(headers.get(CAUSATION)),
        exchange=short_of(headers[ORIGIN_EXCHANGE]) if is_copy else name_of(method.exchange),
        routing_key=short_of(headers[ORIGIN_KEY]) if ORIGIN_KEY in headers else name_of(method.routing_key),
        headers=headers,
        content_type=name_of(properties.content_type),
        timestamp=timestamp if timestamp is None or 0 < timestamp < _SOON else whole_seconds(timestamp),
        app_id=name_of(properties.app_id),
        redelivered=method.redelivered or headers.get(REDELIVERED) is True,
        attempt=count_of(headers.get(ATTEMPT)) or 1,
    )


def whole_seconds(timestamp: int) -> int | None:
    """Return a timestamp in seconds since the epoch; some senders give milliseconds. None if it is not a date."""
    seconds = seconds_of(timestamp)
    return None if seconds is None else int(seconds)


def moved_properties(
    method: Any, properties: Properties, *, is_aside: bool, names: Mapping[str, str] | None = None
) -> Properties:
    """Return the properties of a moved copy: the original's, with the exchange and routing key of its first publish.

    ``names`` are the new names of queues.

    Raises ValueError for a copy that no client can write.
    """
    headers = properties.headers or {}
    if method.exchange:
        headers = from_sender(headers)
    headers = copy_headers(headers, keep_history=True)
    if names:
        headers = renamed_headers(headers, names)
    known = {name: getattr(properties, name) for name in PROPERTIES}
    if is_aside and known["expiration"] is not None:
        headers[DRAIN_EXPIRATION], known["expiration"] = known["expiration"], None
    elif not is_aside and DRAIN_EXPIRATION in headers:
        known["expiration"] = str(headers.pop(DRAIN_EXPIRATION))
    notes: dict[str, Any] = {REDELIVERED: True} if method.redelivered else {}
    if method.exchange:
        notes = {ORIGIN_EXCHANGE: method.exchange, ORIGIN_KEY: method.routing_key, **notes}
    try:
        return copied_properties(known, {**headers, **notes}, properties.remainder, keep_expiration=True)
    except ValueError:
        # Headers that fill a frame leave no room for more, so the message is moved unchanged.
        return copied_properties(known, headers, properties.remainder, keep_expiration=True)
