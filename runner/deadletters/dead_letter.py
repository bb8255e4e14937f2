"""A parked message, and what its headers tell of its past."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pika

from runner.amqp.properties import PROPERTIES
from runner.headers import (
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

#: What the broker's words for its own parking mean (RabbitMQ: "Dead Letter Exchanges").
_BROKER_REASONS = {
    "delivery_limit": "delivered too often without an answer",
    "expired": "waited longer than its time to live",
    "maxlen": "its queue was full",
    "rejected": "rejected by who read it",
}
NO_REASON = "no reason in its headers"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of a dead-letter queue, as it is delivered from there."""

    #: The dead-letter queue.
    queue: str
    #: AMQP's own properties by their names, except the headers; ``undecoded`` are bytes that belong to no property.
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: bytes
    #: How it came into the dead-letter queue.
    exchange: str = ""
    routing_key: str = ""

    @property
    def id(self) -> str:
        """Its message id; of one without, something that is the same at each look."""
        own = name_of(self.properties.get("message_id"))
        if own:
            return own
        seed = f"{self.queue}/{self.properties.get('timestamp')}/".encode() + self.body
        return hashlib.sha256(seed).hexdigest()[:32]

    @property
    def type(self) -> str:
        """What happened, as in ``order.created``; empty where nothing is said."""
        return name_of(self.properties.get("type"))

    @property
    def correlation_id(self) -> str:
        """The id of the business object; empty where nothing is said."""
        return name_of(self.properties.get("correlation_id"))

    @property
    def deaths(self) -> list[Mapping[str, Any]]:
        """What the broker tells of each of its own parkings and expirations, the latest first."""
        found = self.headers.get(DEATH)
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    @property
    def trusted_headers(self) -> Mapping[str, Any]:
        """The headers without those that only a copy can have, if the broker parked what a sender published.

        A copy comes through the default exchange, so each of its deaths names that one.
        """
        is_of_sender = any(text_of(one.get("exchange")) for one in self.deaths)
        return from_sender(self.headers) if is_of_sender else self.headers

    @property
    def is_parked_by_broker(self) -> bool:
        """Whether the broker itself parked it: whoever parks a message with a reason takes the broker's headers off."""
        return bool(self.deaths) or (FIRST_DEATH_REASON in self.headers and FAILED_AT not in self.headers)

    @property
    def error(self) -> str:
        """Why it was parked, in words."""
        if self.is_parked_by_broker:
            reason = self.deaths[0].get("reason") if self.deaths else self.headers[FIRST_DEATH_REASON]
            return f"parked by the broker: {_BROKER_REASONS.get(text_of(reason)) or text_of(reason) or NO_REASON}"
        return text_of(self.headers.get(LAST_ERROR)) or NO_REASON

    @property
    def parked_at(self) -> float | None:
        """When it was parked, in seconds since the epoch; None where nothing tells it."""
        own = seconds_of(self.headers.get(FAILED_AT))
        broker = seconds_of(self.deaths[0].get("time")) if self.deaths else None
        first, second = (broker, own) if self.is_parked_by_broker else (own, broker)
        if first is not None:
            return first
        return second if second is not None else seconds_of(self.properties.get("timestamp"))

    @property
    def published(self) -> tuple[str, str | None]:
        """The exchange and the routing key that it was first published with; no key where nothing tells it."""
        headers = self.trusted_headers
        if ORIGIN_EXCHANGE in headers or ORIGIN_KEY in headers:
            return text_of(headers.get(ORIGIN_EXCHANGE)), text_of(headers.get(ORIGIN_KEY))
        # The broker adds the latest before the others.
        first = self.deaths[-1] if self.deaths else {}
        keys = first.get("routing-keys")
        if isinstance(keys, list) and keys:
            return text_of(first.get("exchange")), text_of(keys[0])
        return "", None

    @property
    def replays(self) -> int:
        """How often it was replayed already."""
        return count_of(self.trusted_headers.get(REPLAYS))

    @property
    def replayed_at(self) -> int:
        """When it was last replayed, in milliseconds since the epoch; 0 for never."""
        return milliseconds_of(self.trusted_headers.get(REPLAYED_AT)) or 0


def text_of(value: object) -> str:
    """A name or an error as text; bytes that are no UTF-8 are escaped, and nothing is empty."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


def dead_letter_of(queue: str, method: Any, properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    """Return a message as it was delivered from a queue."""
    known = {name: getattr(properties, name) for name in PROPERTIES}
    if remainder := properties.remainder:
        known["undecoded"] = remainder
    return DeadLetter(queue, known, properties.headers or {}, body, method.exchange, method.routing_key)
