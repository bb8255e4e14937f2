"""What travels: the message a handler gets, the events it answers with, and how it may refuse.

Bodies are JSON, read and written by ``strict_json``.
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

#: Events made by ``Message.event_id`` are UUIDv5 in this namespace (RFC 9562, section 5.5).
EVENT_NAMESPACE = uuid.UUID("5f0f4a86-6d5c-5a5e-9a5e-6b1d0c5e7a11")

JSON_CONTENT_TYPE = "application/json"

#: The type of the notes that workers write about each try of a message.
ATTEMPT_TYPE = "runner.attempt"
#: What a service can record in the event history, and the statuses of an order that no event has decided.
EVENTS, ATTEMPTS = "events", "attempts"
ACCEPTED, FAILED = "accepted", "failed"

#: Its own, so that a plugin that seeds Python's shared one does not have each of its processes draw the same ids.
_RANDOM = random.Random()
os.register_at_fork(after_in_child=_RANDOM.seed)


def random_id() -> str:
    """A UUIDv4 as text (RFC 9562, section 5.4); unlike ``uuid.uuid4`` without asking the kernel each time."""
    digits = f"{_RANDOM.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def name_based_id(name: str) -> str:
    """The UUIDv5 of a name in ``EVENT_NAMESPACE``, as text (RFC 9562, section 5.5)."""
    digest = hashlib.sha1(EVENT_NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class Reject(Exception):
    """Raised by a handler: this message can never be handled; park it in its dead-letter queue now."""


class Retry(Exception):
    """Raised by a handler: this message may be handled later; take the next step of its retry ladder."""


class BadBody(Reject):
    """A message's body is not the JSON that the handler asked for."""


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """What ``store.transact`` returns. A handler that returns it publishes the events that ``work`` returns."""

    work: Callable[[Any], object]


class BadOutcome(Reject):
    """A handler returned something other than events, and would do so at each attempt."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, to be published.

    A handler gives ``type`` and ``body``; the worker fills in what is left empty: ``exchange`` and
    ``routing_key`` from the service's ``publishes``, ``id`` from the message in hand, ``correlation_id``
    and ``causation_id`` from that message, and the timestamp.
    """

    #: What happened, in the past tense: ``payment.success``.
    type: str
    #: Anything that JSON can say, or bytes that are sent as they are.
    body: Any
    exchange: str | None = None
    routing_key: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    #: The AMQP message id; the same id means the same event.
    id: str | None = None
    #: The business object this belongs to: the order's id.
    correlation_id: str | None = None
    #: The id of the message that caused this event.
    causation_id: str | None = None
    content_type: str = JSON_CONTENT_TYPE
    #: Seconds since the epoch.
    timestamp: int | None = None
    #: The service that published it.
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
        """The same event with these set where they are not set yet."""
        # Named one by one, since dataclasses.replace asks for each field by its name, and this is done for each event.
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
        """The body as bytes. Raises TypeError or ValueError where it is not JSON."""
        return self.body if isinstance(self.body, bytes) else encode_json(self.body)


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery, as a handler sees it."""

    body: bytes
    #: The queue it came from.
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
    #: The broker delivered it before and was not told of its end (AMQP 0-9-1 ``redelivered``).
    redelivered: bool = False
    #: Whether the sender gave it an id; else ``id`` is made of what it holds, and two that hold the same have the same.
    has_own_id: bool = True
    #: 1 for the first try, 2 for the first retry, and so on.
    attempt: int = 1

    @property
    def replays(self) -> int:
        """How often it was replayed from its dead-letter queue."""
        found = self.headers.get(REPLAYS)
        return found if isinstance(found, int) and found is not True and 0 < found <= MAX_COUNT else 0

    def json(self) -> Any:
        """The body as JSON, fractions as Decimal. Raises BadBody, which parks the message."""
        try:
            return decode_json(self.body)
        except ValueError as error:
            raise BadBody(f"message {self.id or 'without id'}: the body is not usable JSON, {error}") from None

    def event_id(self, index: int, service: str = "") -> str:
        """The id of the ``index``-th event that ``service`` makes of this message.

        It depends on nothing else, so that a redelivered message makes the same events again.
        """
        return name_based_id(f"{self.id}/{service}/{index}")


def events_of(outcome: Event | list[Event] | tuple[Event, ...] | None, where: str = "handle") -> Iterator[Event]:
    """Yield what a handler, or ``where``, returned, as events. Raises BadOutcome for anything that is not an event."""
    if outcome is None:
        return
    for event in outcome if isinstance(outcome, list | tuple) else (outcome,):
        if not isinstance(event, Event):
            if isinstance(event, Coroutine):
                event.close()  # otherwise Python warns that it was never awaited
            raise BadOutcome(f"{where}: returned {reprlib.repr(event)}; allowed: an Event, a list of them, or None")
        yield event


def caused_by(message: Message, event: Event, index: int, service: str) -> Event:
    """``event`` with the ids it inherits from ``message`` filled in, where it has none of its own."""
    return event.filled(
        id=event.id or message.event_id(index, service),
        correlation_id=message.correlation_id or message.id,
        causation_id=message.id,
        app_id=service,
    )
