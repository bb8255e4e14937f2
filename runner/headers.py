"""Headers that the worker, the desk and the broker give a message, and those that a copy of a message must not carry.

Any client can publish headers with these names. Functions of this module read them, and accept only values that this
system writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

#: The id of the message that caused the event.
CAUSATION = "x-causation-id"
#: The attempt that the copy is for, from 1. The broker's ``x-death`` counts differently from version to version.
ATTEMPT = "x-attempt"
#: The exchange and routing key of the first publish, and the queue in which the message failed.
ORIGIN_EXCHANGE, ORIGIN_KEY, ORIGIN_QUEUE = "x-origin-exchange", "x-origin-routing-key", "x-origin-queue"
#: The errors of the first attempt and of the last one.
FIRST_ERROR, LAST_ERROR = "x-first-error", "x-last-error"
#: Of a dead letter: the error's class and its traceback; the service, host, pid and time (seconds since the epoch).
EXCEPTION, TRACEBACK = "x-exception", "x-traceback"
SERVICE, HOST, PID, FAILED_AT = "x-service", "x-host", "x-pid", "x-failed-at"
#: Of a dead letter that killed workers: their number, and the signal.
CRASHES, SIGNAL = "x-crashes", "x-signal"
#: The time of the publish in milliseconds since the epoch, because AMQP's own timestamp counts seconds.
SENT_AT = "x-sent-at"
#: In a copy: the time of the event's first publish in milliseconds since the epoch.
PUBLISHED_AT = "x-published-at"
#: The number of replays from a dead-letter queue, and the time of the last one in milliseconds since the epoch.
REPLAYS, REPLAYED_AT = "x-replays", "x-replayed-at"
#: Counts are stored in 32 bits, and one is added to them.
MAX_COUNT = 2**31 - 2
#: The sender gave the message no id; the id is made of what the message holds.
MADE_ID = "x-made-id"
#: The message was delivered before by a queue that was replaced since, and may have been handled.
REDELIVERED = "x-redelivered"
#: The time to live of a message that waits in another queue while its own is replaced.
DRAIN_EXPIRATION = "x-drain-expiration"
#: The injected fault of a message.
FAULT = "x-fault"
#: The broker's own headers: the history of dead-lettering, and counts of deliveries (RabbitMQ: "Dead Letter Exchanges",
#: "Quorum Queues").
DEATH, FIRST_DEATH_QUEUE, FIRST_DEATH_REASON = "x-death", "x-first-death-queue", "x-first-death-reason"
DELIVERY_COUNT, ACQUIRED_COUNT = "x-delivery-count", "x-acquired-count"
#: In a copy: a table of the properties and headers of the first publish that a copy does not repeat.
ORIGINAL = "x-original"
#: Headers that steer the broker: further routing keys (RabbitMQ: "Sender-selected Distribution"), and a delay of the
#: delayed-message exchange or of a queue of RabbitMQ 4.3. They belong to the first publish.
STEERING = frozenset({"CC", "BCC", "x-delay", "x-opt-delivery-time", "x-opt-delivery-delay"})
#: Prefixes of headers that the broker adds; in a copy they would describe the original's history.
_BROKER = (DEATH, "x-first-death-", "x-last-death-", DELIVERY_COUNT, ACQUIRED_COUNT)
#: Headers that only copies of this system have, and that change the handling of a message.
_OF_COPIES = frozenset(
    {
        ATTEMPT, MADE_ID, ORIGIN_EXCHANGE, ORIGIN_KEY, PUBLISHED_AT, REDELIVERED, REPLAYED_AT, REPLAYS, ORIGINAL,
        ORIGIN_QUEUE, FIRST_ERROR, LAST_ERROR, DRAIN_EXPIRATION,
    }
)  # fmt: skip
#: Headers that hold the name of a queue.
_QUEUES = frozenset({ORIGIN_QUEUE, FIRST_DEATH_QUEUE, "x-last-death-queue"})
#: Larger numbers of seconds are milliseconds, as clients in other languages send them; this one is the year 5138. From
#: the next number on they are microseconds.
_MAX_SECONDS, _MAX_MILLISECONDS, _MAX_MICROSECONDS = 10**11, 10**14, 10**17
#: The last second for which Python has a date, minus one day for time zones.
_LAST_SECOND = 253_402_300_799 - 86_400
MAX_MILLISECONDS = _LAST_SECOND * 1000
#: Bytes of a short string (AMQP 0-9-1, 4.2.5.3), and the bytes shown of a name that is too long once it is escaped.
_SHORT, _SHOWN = 255, 200


class Timestamp(int):
    """An AMQP timestamp that is no date in Python."""


class Undecoded(bytes):
    """A value that cannot be decoded, as its bytes: the type, the length and the content."""


def from_sender(headers: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the headers of a message that came through an exchange, without those that only a copy can have.

    A copy comes through the default exchange. A sender's own headers of those names are moved into ``x-original``.
    """
    if _OF_COPIES.isdisjoint(headers):
        return headers
    forged = {name: value for name, value in headers.items() if name in _OF_COPIES}
    return {name: value for name, value in headers.items() if name not in forged} | {ORIGINAL: forged}


def copy_headers(headers: Mapping[Any, Any], *, keep_history: bool = False) -> dict[Any, Any]:
    """Return the headers for a copy: without those that steer the broker, which are moved into ``x-original``.

    Without ``keep_history`` the broker's own headers are left out too.
    """
    kept = {
        name: value
        for name, value in headers.items()
        if name not in STEERING and (keep_history or not str(name).startswith(_BROKER))
    }
    steering = [(name, value) for name, value in headers.items() if name in STEERING]
    return with_original(kept, steering) if steering else kept


def renamed_headers(headers: Mapping[Any, Any], names: Mapping[str, str]) -> dict[Any, Any]:
    """Return the headers of a copy in which queues have new names, so that a replay finds them.

    ``names`` are the new names by the old ones. Only headers of copies and of the broker name queues.
    """

    def renamed(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, str) else value

    found = {name: renamed(value) if name in _QUEUES else value for name, value in headers.items()}
    deaths = found.get(DEATH)
    if isinstance(deaths, list):
        found[DEATH] = [
            {**one, "queue": renamed(one["queue"])} if isinstance(one, Mapping) and "queue" in one else one
            for one in deaths
        ]
    return found


def with_original(headers: dict[Any, Any], values: Iterable[tuple[str, Any]]) -> dict[Any, Any]:
    """Return the headers with these added to ``x-original``, which keeps what it has."""
    earlier = headers.get(ORIGINAL)
    if isinstance(earlier, Undecoded):
        earlier = {ORIGINAL: earlier}  # it is nested too deep to be merged
    return {**headers, ORIGINAL: {**dict(values), **(earlier if isinstance(earlier, Mapping) else {})}}


def count_of(value: object) -> int:
    """Return a count in a header; 0 for a value that this system does not write."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT else 0


def milliseconds_of(value: object) -> int | None:
    """Return a time in milliseconds since the epoch in a header; None for a value that this system does not write."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= MAX_MILLISECONDS else None  # type: ignore[call-overload,operator]


def seconds_of(value: object) -> float | None:
    """Return a time, as any client may write it, in seconds since the epoch; None for any other value."""
    if isinstance(value, datetime):
        value = value.timestamp()
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        return None
    for most, unit in ((_MAX_SECONDS, 1), (_MAX_MILLISECONDS, 10**3), (_MAX_MICROSECONDS, 10**6)):
        if value <= most:
            seconds = value / unit if unit > 1 else value
            return seconds if seconds <= _LAST_SECOND else None
    return None


def name_of(value: Any) -> str:
    """Return an id or a name in a property as text that fits a short string, even if it is not UTF-8."""
    if type(value) is str:  # nearly always
        return value
    if not value:
        return ""
    escaped = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    if len(raw := escaped.encode("utf-8", "backslashreplace")) > _SHORT:
        # Different names must stay different.
        escaped = raw[:_SHOWN].decode("utf-8", "ignore") + hashlib.sha256(raw).hexdigest()[:16]
    return escaped


def short_of(value: object) -> str:
    """Return a name in a header; empty for a value that does not fit a short string."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) and len(value.encode("utf-8", "replace")) <= _SHORT else ""
