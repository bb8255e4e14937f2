"""The headers that workers, replays and the broker add to messages, and the headers that must not be copied.

Because any client can set FastCommerce's headers, this module accepts only values that FastCommerce could have written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

#: The id of the message that caused the event.
CAUSATION = "x-causation-id"
#: The number of the attempt, starting at 1. The broker's ``x-death`` header is not used, because its counts depend on
#: the RabbitMQ version.
ATTEMPT = "x-attempt"
#: The exchange and routing key with which the message was first published, and the queue in which it failed.
ORIGIN_EXCHANGE, ORIGIN_KEY, ORIGIN_QUEUE = "x-origin-exchange", "x-origin-routing-key", "x-origin-queue"
#: The errors of the first and last attempts.
FIRST_ERROR, LAST_ERROR = "x-first-error", "x-last-error"
#: Only in dead letters: the exception's class and traceback, and the service, host, pid and time of the failure. The
#: time is in seconds since the epoch.
EXCEPTION, TRACEBACK = "x-exception", "x-traceback"
SERVICE, HOST, PID, FAILED_AT = "x-service", "x-host", "x-pid", "x-failed-at"
#: Only in dead letters that crashed workers: the number of crashes, and the signal that killed the worker.
CRASHES, SIGNAL = "x-crashes", "x-signal"
#: The time of publishing, in milliseconds since the epoch. AMQP timestamps have a resolution of only one second.
SENT_AT = "x-sent-at"
#: Only in copies: the time at which the event was first published, in milliseconds since the epoch.
PUBLISHED_AT = "x-published-at"
#: The number of replays from a dead-letter queue, and the time of the last replay in milliseconds since the epoch.
REPLAYS, REPLAYED_AT = "x-replays", "x-replayed-at"
#: The maximum count in a header. The count plus one must still fit into a signed 32-bit integer.
MAX_COUNT = 2**31 - 2
#: True in a copy of a message without an id. The copy's id is derived from the message's content.
MADE_ID = "x-made-id"
#: True in a copy of a message that had already been delivered, and may therefore already have been handled.
REDELIVERED = "x-redelivered"
#: The time to live of a message that waits in another queue while its own queue is being replaced.
DRAIN_EXPIRATION = "x-drain-expiration"
#: The fault to inject when the message is handled.
FAULT = "x-fault"
#: The headers that the broker sets: the dead-lettering history and the delivery counts (RabbitMQ: "Dead Letter
#: Exchanges", "Quorum Queues").
DEATH, FIRST_DEATH_QUEUE, FIRST_DEATH_REASON = "x-death", "x-first-death-queue", "x-first-death-reason"
DELIVERY_COUNT, ACQUIRED_COUNT = "x-delivery-count", "x-acquired-count"
#: Only in copies: a table of the original message's properties and headers that must not be copied.
ORIGINAL = "x-original"
#: Headers that control how the broker routes or delays a message when it is first published. They contain additional
#: routing keys (RabbitMQ: "Sender-selected Distribution"), or a delay for a delayed-message exchange or a RabbitMQ 4.3
#: queue.
STEERING = frozenset({"CC", "BCC", "x-delay", "x-opt-delivery-time", "x-opt-delivery-delay"})
#: Prefixes of the headers that the broker adds. In a copy, these headers would describe the history of the original
#: message.
_BROKER = (DEATH, "x-first-death-", "x-last-death-", DELIVERY_COUNT, ACQUIRED_COUNT)
#: Headers that only copies have, and that affect how a message is handled.
_OF_COPIES = frozenset(
    {
        ATTEMPT, MADE_ID, ORIGIN_EXCHANGE, ORIGIN_KEY, PUBLISHED_AT, REDELIVERED, REPLAYED_AT, REPLAYS, ORIGINAL,
        ORIGIN_QUEUE, FIRST_ERROR, LAST_ERROR, DRAIN_EXPIRATION,
    }
)  # fmt: skip
#: Headers that contain a queue name.
_QUEUES = frozenset({ORIGIN_QUEUE, FIRST_DEATH_QUEUE, "x-last-death-queue"})
#: The largest numbers that are read as seconds (until the year 5138), as milliseconds, and as microseconds. Some
#: clients do not send seconds.
_MAX_SECONDS, _MAX_MILLISECONDS, _MAX_MICROSECONDS = 10**11, 10**14, 10**17
#: The last second that Python's dates can express, minus one day for time zones.
_LAST_SECOND = 253_402_300_799 - 86_400
MAX_MILLISECONDS = _LAST_SECOND * 1000
#: The maximum length of a short string in bytes (AMQP 0-9-1, 4.2.5.3), and the number of bytes that are kept of a
#: longer name.
_SHORT, _SHOWN = 255, 200


class Timestamp(int):
    """An AMQP timestamp outside the range of Python's dates."""


class Undecoded(bytes):
    """The bytes of an undecodable value, with its type, length and content."""


def is_reserved(name: str) -> bool:
    """Return True if a person must not set this header, because a copy, the broker or the publisher sets it."""
    return name in _OF_COPIES or name in STEERING or name == SENT_AT or name.startswith(_BROKER)


def from_sender(headers: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return a sender's headers without the headers that only copies may have.

    Copies are published to the default exchange, so a message from another exchange is not a copy. Headers that only
    copies may have are moved into ``x-original``.
    """
    if _OF_COPIES.isdisjoint(headers):
        return headers
    forged = {name: value for name, value in headers.items() if name in _OF_COPIES}
    return {name: value for name, value in headers.items() if name not in forged} | {ORIGINAL: forged}


def copy_headers(headers: Mapping[Any, Any], *, keep_history: bool = False) -> dict[Any, Any]:
    """Return the headers for a copy of a message.

    Headers that control the broker's routing and delays are moved into ``x-original``. Headers that the broker has
    added are kept only if ``keep_history`` is true.
    """
    kept = {
        name: value
        for name, value in headers.items()
        if name not in STEERING and (keep_history or not str(name).startswith(_BROKER))
    }
    steering = [(name, value) for name, value in headers.items() if name in STEERING]
    return with_original(kept, steering) if steering else kept


def renamed_headers(headers: Mapping[Any, Any], names: Mapping[str, str]) -> dict[Any, Any]:
    """Return the headers of a copy with the new names of renamed queues, so that a replay finds the queues.

    ``names`` maps each old queue name to the new name. Queue names occur only in headers of copies and in headers that
    the broker has added.
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
    """Return the headers with ``values`` added to the table ``x-original``. Existing values in the table are kept."""
    earlier = headers.get(ORIGINAL)
    if isinstance(earlier, Undecoded):
        earlier = {ORIGINAL: earlier}  # the table is nested too deeply to be merged
    return {**headers, ORIGINAL: {**dict(values), **(earlier if isinstance(earlier, Mapping) else {})}}


def count_of(value: object) -> int:
    """Return the count in a header, or 0 if FastCommerce cannot have written the value."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT else 0


def milliseconds_of(value: object) -> int | None:
    """Return a header's time in milliseconds since the epoch, or None if FastCommerce cannot have written it."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= MAX_MILLISECONDS else None  # type: ignore[call-overload,operator]


def seconds_of(value: object) -> float | None:
    """Convert a time in any unit that clients use to seconds since the epoch. Return None for any other value."""
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
    """Return an id or name from a property as text that fits into a short string, even if the bytes are not UTF-8."""
    if type(value) is str:  # the usual case
        return value
    if not value:
        return ""
    escaped = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    if len(raw := escaped.encode("utf-8", "backslashreplace")) > _SHORT:
        # The hash keeps truncated names distinct.
        escaped = raw[:_SHOWN].decode("utf-8", "ignore") + hashlib.sha256(raw).hexdigest()[:16]
    return escaped


def short_of(value: object) -> str:
    """Return a name from a header, or an empty string if the value does not fit into a short string."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) and len(value.encode("utf-8", "replace")) <= _SHORT else ""
