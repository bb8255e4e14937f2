"""Conversion from events to AMQP properties, and from deliveries to messages.

``type``, ``message_id``, ``correlation_id``, ``timestamp``, ``app_id`` and ``content_type`` are AMQP properties. AMQP
has no property for the id of the causing message, so the header ``x-causation-id`` contains this id.
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

#: The delivery mode of messages that survive a broker restart (AMQP 0-9-1, class basic).
PERSISTENT = 2
#: Properties that must not be copied. RabbitMQ also removes the time to live when it dead-letters a message
#: ("Time-To-Live and Expiration"), and accepts a user id only from that user ("Validated User-ID").
_NOT_COPIED = ("expiration", "user_id")
#: The names of all properties except ``headers``.
PROPERTIES = tuple(name for name in FLAGS if name != "headers")
#: A timestamp below this number must be in seconds. In milliseconds, the number would be a date in 1970.
_SOON = 10**10
#: The maximum size of a body in bytes. RabbitMQ 4 closes the channel after a larger message (``max_message_size``).
MAX_BODY = 16 * 1024 * 1024

#: The maximum size of a frame in bytes, and therefore of all headers together. RabbitMQ closes the connection after a
#: larger frame (``frame_max``).
MAX_FRAME = 131_072


def properties_of(event: Event) -> Properties:
    """Return the AMQP properties of a persistent event. Raises Unencodable if AMQP cannot express a value."""
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
    """An event that is already encoded for AMQP, so that sending it on the I/O thread cannot fail."""

    event: Event
    body: bytes
    properties: Properties

    @property
    def key(self) -> tuple[str, str, str]:
        """The id, exchange and routing key, which identify the message if the broker returns it."""
        return (self.event.id or "", self.event.exchange or "", self.event.routing_key or "")


def encode(event: Event) -> Encoded:
    """Encode an event. Raises ValueError or TypeError if AMQP or JSON cannot express a value."""
    body = event.encoded()
    if len(body) > MAX_BODY:
        raise ValueError(f"event {event.type!r}: the body has {len(body)} bytes; allowed: {MAX_BODY}")
    check_short(event.exchange or "")
    check_short(event.routing_key or "")
    try:
        properties = properties_of(event)
    except Exception as error:
        raise ValueError(f"event {event.type!r}: a property cannot be encoded for AMQP: {error}") from error
    if (size := len(properties.encoded) + HEADER_OVERHEAD) > MAX_FRAME:
        raise ValueError(f"event {event.type!r}: the headers have {size} bytes; allowed: {MAX_FRAME}")
    return Encoded(event, body, properties)


def encode_copy(event: Event, original: Properties) -> Encoded:
    """Encode a copy of a message. The body size is not checked, because the broker accepted the original message.

    ``event`` contains the body, exchange, routing key and headers, and an id in case the original message has no id.
    All other properties come from the original. Raises ValueError if AMQP cannot express the copy.
    """
    headers = {**event.headers, SENT_AT: int(time.time() * 1000)}
    known = {name: getattr(original, name) for name in PROPERTIES}
    known["message_id"] = known["message_id"] or event.id
    return Encoded(event, event.encoded(), copied_properties(known, headers, original.remainder))


def copied_properties(
    known: Mapping[str, Any], headers: dict[Any, Any], remainder: bytes = b"", *, keep_expiration: bool = False
) -> Properties:
    """Return the properties for a copy with the given headers. The copy is always persistent.

    Properties that must not be copied are moved into the header ``x-original``. Raises ValueError if AMQP cannot
    express the copy.
    """
    if remainder:
        raise ValueError(f"the message cannot be copied: {len(remainder)} bytes of its properties cannot be decoded")
    dropped = [name for name in _NOT_COPIED if name != "expiration" or not keep_expiration]
    original = [(name, known[name]) for name in dropped if known.get(name) is not None]
    if original:
        headers = with_original(headers, original)
    fields = {name: known.get(name) for name in PROPERTIES if name not in dropped}
    try:
        properties = Properties.of(**{**fields, "headers": headers or None, "delivery_mode": PERSISTENT})
    except Exception as error:
        raise ValueError(f"the message cannot be copied: {error}") from error
    if (size := len(properties.encoded) + HEADER_OVERHEAD) > MAX_FRAME:
        raise ValueError(f"the message cannot be copied: the headers have {size} bytes; allowed: {MAX_FRAME}")
    return properties


def _id_of(routing_key: str, properties: Properties, body: bytes) -> str:
    """Return an id for a message without an id. The id is the same for every delivery of the message."""
    seed = f"{routing_key}/{properties.timestamp}/{hashlib.sha256(body).hexdigest()}"
    return name_based_id(seed)


def message_of(method: Any, properties: Properties, body: bytes, queue: str) -> Message:
    """Return the message in a ``basic.deliver``. Any properties that a sender can write are accepted."""
    headers = properties.headers or {}
    if method.exchange:
        headers = from_sender(headers)
    # A retried message arrives through the default exchange, but handlers get the exchange to which the message was
    # first published.
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
    """Convert a timestamp to whole seconds since the epoch. Return None if the timestamp is not a valid date."""
    seconds = seconds_of(timestamp)
    return None if seconds is None else int(seconds)


def moved_properties(
    method: Any, properties: Properties, *, is_aside: bool, names: Mapping[str, str] | None = None
) -> Properties:
    """Return the properties for a message that is moved to another queue.

    Headers record the exchange and routing key with which the message was first published. If ``is_aside`` is true, the
    message only waits in the other queue, and a header stores its time to live. ``names`` maps old queue names to new
    queue names. Raises ValueError if AMQP cannot express the copy.
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
        # If the headers already fill a frame, there is no room for additional headers.
        return copied_properties(known, headers, properties.remainder, keep_expiration=True)
