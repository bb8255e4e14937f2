"""The messages that handlers receive, the events that they return, and the exceptions that they raise.

Message bodies are JSON, which ``strict_json`` reads and writes.
"""

from __future__ import annotations

import hashlib
import os
import random
import reprlib
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.headers import MAX_COUNT, REPLAYS
from runner.strict_json import decode_json, encode_json

#: The namespace of the UUIDv5 ids that ``Message.event_id`` returns (RFC 9562, section 5.5).
EVENT_NAMESPACE = uuid.UUID("5f0f4a86-6d5c-5a5e-9a5e-6b1d0c5e7a11")

JSON_CONTENT_TYPE = "application/json"

#: The type of the report that a worker publishes about each attempt.
ATTEMPT_TYPE = "runner.attempt"
#: The kinds of records that a service can add to the event history.
EVENTS, ATTEMPTS = "events", "attempts"
#: The statuses of an order that has no decision.
ACCEPTED, FAILED = "accepted", "failed"

#: A separate generator. If a plugin seeded Python's shared generator, the plugin's processes would create identical
#: ids.
_RANDOM = random.Random()
os.register_at_fork(after_in_child=_RANDOM.seed)


def random_id() -> str:
    """Return a UUIDv4 as text (RFC 9562, section 5.4). Unlike ``uuid.uuid4``, this function makes no system call."""
    digits = f"{_RANDOM.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def name_based_id(name: str) -> str:
    """Return the UUIDv5 of a name in ``EVENT_NAMESPACE`` as text (RFC 9562, section 5.5)."""
    digest = hashlib.sha1(EVENT_NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class Reject(Exception):
    """An exception with which a handler rejects a message that can never be handled.

    The message is dead-lettered without another attempt.
    """


class Retry(Exception):
    """An exception with which a handler requests another attempt after the queue's next retry delay."""


class BadBody(Reject):
    """An error for a message body that is not JSON, although the handler expects JSON."""


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """The result of ``store.transact``.

    If a handler returns this object, the worker publishes the events that ``work`` returns.
    """

    work: Callable[[Any], object]


class BadOutcome(Reject):
    """An error for a handler result that is not an event. Another attempt would not help."""


@dataclass(frozen=True, slots=True)
class Event:
    """A message that a service publishes about a business event.

    A handler needs to set only ``type`` and ``body``. The worker fills in all other fields that are empty:

    - ``exchange`` and ``routing_key`` from the service's ``publishes``,
    - ``id``, ``correlation_id`` and ``causation_id`` from the handled message,
    - ``timestamp`` from the clock, and ``app_id`` from the service's name.
    """

    #: The kind of event, such as ``order.created`` or ``payment.success``.
    type: str
    #: A value that JSON can express, or bytes that are sent unchanged.
    body: Any
    exchange: str | None = None
    routing_key: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    #: The AMQP message id. Two messages with the same id represent the same event.
    id: str | None = None
    #: The id of the business object, such as an order.
    correlation_id: str | None = None
    #: The id of the message that caused this event.
    causation_id: str | None = None
    content_type: str = JSON_CONTENT_TYPE
    #: Seconds since the epoch.
    timestamp: int | None = None
    #: The name of the service that publishes the event.
    app_id: str | None = None

    def filled(
        self,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        app_id: str | None = None,
    ) -> Event:
        """Return a copy of the event in which the arguments fill the fields that are not set."""
        # Every event is copied, and ``dataclasses.replace`` would be slower, because it looks up each field by name.
        return Event(
            self.type,
            self.body,
            exchange if self.exchange is None else self.exchange,
            routing_key if self.routing_key is None else self.routing_key,
            self.headers,
            self.id or id,
            self.correlation_id or correlation_id,
            self.causation_id or causation_id,
            self.content_type,
            self.timestamp,
            self.app_id or app_id,
        )

    def encoded(self) -> bytes:
        """Return the body as bytes. Raises TypeError or ValueError if JSON cannot express the body."""
        return self.body if isinstance(self.body, bytes) else encode_json(self.body)


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a message to a handler."""

    body: bytes
    #: The queue from which the message was delivered.
    queue: str
    type: str = ""
    id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    exchange: str = ""
    routing_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = JSON_CONTENT_TYPE
    timestamp: int | None = None
    app_id: str = ""
    #: True if the message may have been delivered before (AMQP 0-9-1 ``redelivered``).
    redelivered: bool = False
    #: True if the sender set the message id. Otherwise, ``id`` is derived from the content, so that messages with the
    #: same content have the same id.
    has_own_id: bool = True
    #: 1 for the first attempt, 2 for the first retry, and so on.
    attempt: int = 1

    @property
    def replays(self) -> int:
        """The number of times that the message was replayed from a dead-letter queue."""
        found = self.headers.get(REPLAYS)
        return found if isinstance(found, int) and found is not True and 0 < found <= MAX_COUNT else 0

    def json(self) -> Any:
        """Return the decoded JSON body. Fractions are returned as Decimal.

        Raises BadBody if the body is not JSON. BadBody is a subclass of Reject, so the message is dead-lettered.
        """
        try:
            return decode_json(self.body)
        except ValueError as error:
            raise BadBody(f"message {self.id or 'without id'}: the body cannot be decoded as JSON: {error}") from None

    def event_id(self, index: int, service: str = "") -> str:
        """Return the id of an event that ``service`` publishes for this message.

        ``index`` is the position of the event, starting at 0. If the message is redelivered, its events get the same
        ids.
        """
        return name_based_id(f"{self.id}/{service}/{index}")


def events_of(outcome: Event | list[Event] | tuple[Event, ...] | None, where: str = "handle") -> Iterator[Event]:
    """Yield the events in a handler's result. Raises BadOutcome for an object that is not an event.

    ``where`` is the name of the function that returned the result.
    """
    if outcome is None:
        return
    for event in outcome if isinstance(outcome, list | tuple) else (outcome,):
        if not isinstance(event, Event):
            if isinstance(event, Coroutine):
                event.close()  # otherwise Python warns that the coroutine was never awaited
            raise BadOutcome(f"{where}: returned {reprlib.repr(event)}; allowed: an Event, a list of Events, or None")
        yield event


def caused_by(message: Message, event: Event, index: int, service: str) -> Event:
    """Return ``event`` with its missing ids filled in from the handled ``message``."""
    return event.filled(
        id=event.id or message.event_id(index, service),
        correlation_id=message.correlation_id or message.id,
        causation_id=message.id,
        app_id=service,
    )
