"""A dead letter and the history in its headers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pika

from runner.amqp.properties import PROPERTIES
from runner.headers import (
    ATTEMPT,
    DEATH,
    FAILED_AT,
    FIRST_DEATH_REASON,
    LAST_ERROR,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    REPLAYED_AT,
    REPLAYS,
    count_of,
    from_sender,
    milliseconds_of,
    name_of,
    seconds_of,
)

#: Explanations of the broker's reasons for dead-lettering a message (RabbitMQ: "Dead Letter Exchanges").
_BROKER_REASONS = {
    "delivery_limit": "delivered too often without an acknowledgement",
    "expired": "exceeded its time to live",
    "maxlen": "its queue was full",
    "rejected": "rejected by its consumer",
}
NO_REASON = "no reason in the headers"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message from a dead-letter queue, as delivered by the broker."""

    #: The dead-letter queue.
    queue: str
    #: The AMQP properties by name, without the headers. ``undecoded`` contains bytes that belong to no property.
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: bytes
    #: The exchange and the routing key through which the message reached the dead-letter queue.
    exchange: str = ""
    routing_key: str = ""

    @property
    def id(self) -> str:
        """The message id, or for a message without an id, a hash that does not change between reads."""
        own = name_of(self.properties.get("message_id"))
        if own:
            return own
        seed = f"{self.queue}/{self.properties.get('timestamp')}/".encode() + self.body
        return hashlib.sha256(seed).hexdigest()[:32]

    @property
    def type(self) -> str:
        """The event type, such as ``order.created``, or an empty string if the type is unknown."""
        return name_of(self.properties.get("type"))

    @property
    def correlation_id(self) -> str:
        """The correlation id, which is the order id, or an empty string if the id is unknown."""
        return name_of(self.properties.get("correlation_id"))

    @property
    def deaths(self) -> list[Mapping[str, Any]]:
        """The entries of the broker's ``x-death`` header, latest first."""
        found = self.headers.get(DEATH)
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    @property
    def trusted_headers(self) -> Mapping[str, Any]:
        """The headers, excluding headers of workers if the broker dead-lettered the sender's own message.

        Workers publish their copies to the default exchange, so all death entries of a copy name this exchange.
        """
        is_of_sender = any(text_of(one.get("exchange")) for one in self.deaths)
        return from_sender(self.headers) if is_of_sender else self.headers

    @property
    def is_dead_lettered_by_broker(self) -> bool:
        """True if the broker dead-lettered the message. The broker adds no death headers to a copy from a worker."""
        return bool(self.deaths) or (FIRST_DEATH_REASON in self.headers and FAILED_AT not in self.headers)

    @property
    def broker_reason(self) -> str:
        """The broker's word for its reason, such as ``expired``, or an empty string if the header is missing."""
        return text_of(self.deaths[0].get("reason") if self.deaths else self.headers.get(FIRST_DEATH_REASON))

    @property
    def error(self) -> str:
        """The reason why the message was dead-lettered, as text."""
        if self.is_dead_lettered_by_broker:
            reason = self.broker_reason
            return f"dead-lettered by the broker: {_BROKER_REASONS.get(reason) or reason or NO_REASON}"
        return text_of(self.headers.get(LAST_ERROR)) or NO_REASON

    @property
    def error_without_id(self) -> str:
        """The error without the id of the message, for a place that shows the id beside the error."""
        return without_id(self.error, self.id)

    @property
    def dead_lettered_at(self) -> float | None:
        """The time of the dead-lettering in seconds since the epoch, or None if unknown."""
        own = seconds_of(self.headers.get(FAILED_AT))
        broker = seconds_of(self.deaths[0].get("time")) if self.deaths else None
        first, second = (broker, own) if self.is_dead_lettered_by_broker else (own, broker)
        if first is not None:
            return first
        return second if second is not None else seconds_of(self.properties.get("timestamp"))

    @property
    def published(self) -> tuple[str, str | None]:
        """The exchange and the routing key of the original message. An unknown key is None."""
        headers = self.trusted_headers
        if ORIGIN_EXCHANGE in headers or ORIGIN_KEY in headers:
            return text_of(headers.get(ORIGIN_EXCHANGE)), text_of(headers.get(ORIGIN_KEY))
        # The broker lists the latest entry first.
        first = self.deaths[-1] if self.deaths else {}
        keys = first.get("routing-keys")
        if isinstance(keys, list) and keys:
            return text_of(first.get("exchange")), text_of(keys[0])
        return "", None

    @property
    def attempts(self) -> int:
        """The number of the last attempt, or 0 if no attempt is known."""
        return count_of(self.trusted_headers.get(ATTEMPT))

    @property
    def replays(self) -> int:
        """The number of previous replays."""
        return count_of(self.trusted_headers.get(REPLAYS))

    @property
    def replayed_at(self) -> int:
        """The time of the last replay in milliseconds since the epoch, or 0 if the message was never replayed."""
        return milliseconds_of(self.trusted_headers.get(REPLAYED_AT)) or 0


def without_id(error: str, id: str) -> str:
    """Return an error text without the words ``message ID:``, which differ between messages with the same error."""
    return error.replace(f"message {id}: ", "", 1)


def text_of(value: object) -> str:
    """Return a value as text. Bytes that are not UTF-8 become escape sequences, and None becomes an empty string."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


def dead_letter_of(queue: str, method: Any, properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    """Convert a delivery from a queue to a dead letter."""
    known = {name: getattr(properties, name) for name in PROPERTIES}
    if remainder := properties.remainder:
        known["undecoded"] = remainder
    return DeadLetter(queue, known, properties.headers or {}, body, method.exchange, method.routing_key)
