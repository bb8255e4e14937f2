"""The headers that workers, replays and the broker add to a message, and the headers that a copy must not have.

Any client can publish headers with these names. Therefore the functions in this module accept only values that
FastCommerce itself could have written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

#: The id of the message that caused the event.
CAUSATION = "x-causation-id"
#: The number of the attempt, from 1. The broker's ``x-death`` is not used, because its counts depend on the version.
ATTEMPT = "x-attempt"
#: The exchange and routing key of the first publish, and the queue in which the message failed.
ORIGIN_EXCHANGE, ORIGIN_KEY, ORIGIN_QUEUE = "x-origin-exchange", "x-origin-routing-key", "x-origin-queue"
#: The errors of the first attempt and of the last attempt.
FIRST_ERROR, LAST_ERROR = "x-first-error", "x-last-error"
#: In a dead letter: the error's class and traceback, and the service, host, pid and time of the failure. The time is in
#: seconds since the epoch.
EXCEPTION, TRACEBACK = "x-exception", "x-traceback"
SERVICE, HOST, PID, FAILED_AT = "x-service", "x-host", "x-pid", "x-failed-at"
#: In a dead letter that crashed workers: the number of crashes, and the signal.
CRASHES, SIGNAL = "x-crashes", "x-signal"
#: The time of the publish in milliseconds since the epoch. AMQP's own timestamp has only seconds.
SENT_AT = "x-sent-at"
#: In a copy: the time of the event's first publish in milliseconds since the epoch.
PUBLISHED_AT = "x-published-at"
#: The number of replays from a dead-letter queue, and the time of the last replay in milliseconds since the epoch.
REPLAYS, REPLAYED_AT = "x-replays", "x-replayed-at"
#: The maximum count in a header. A count is incremented by one, and the result must fit into 32 bits.
MAX_COUNT = 2**31 - 2
#: In a copy of a message without an id: the copy's id is derived from the content.
MADE_ID = "x-made-id"
#: In a moved copy: the original was delivered before, so it may already have been handled.
REDELIVERED = "x-redelivered"
#: The time to live of a message that waits in another queue while its own queue is replaced.
DRAIN_EXPIRATION = "x-drain-expiration"
#: The fault to inject when the message is handled.
FAULT = "x-fault"
#: The broker's own headers: the history of dead-lettering, and counts of deliveries (RabbitMQ: "Dead Letter Exchanges",
#: "Quorum Queues").
DEATH, FIRST_DEATH_QUEUE, FIRST_DEATH_REASON = "x-death", "x-first-death-queue", "x-first-death-reason"
DELIVERY_COUNT, ACQUIRED_COUNT = "x-delivery-count", "x-acquired-count"
#: In a copy: a table of the properties and headers of the first publish that the copy must not have.
ORIGINAL = "x-original"
#: Headers that steer the broker, and belong only to the first publish. They name further routing keys (RabbitMQ:
#: "Sender-selected Distribution"), or a delay for a delayed-message exchange or a queue of RabbitMQ 4.3.
STEERING = frozenset({"CC", "BCC", "x-delay", "x-opt-delivery-time", "x-opt-delivery-delay"})
#: Prefixes of headers that the broker adds. In a copy, these headers would describe the history of the original.
_BROKER = (DEATH, "x-first-death-", "x-last-death-", DELIVERY_COUNT, ACQUIRED_COUNT)
#: Headers that only copies have, and that change how a message is handled.
_OF_COPIES = frozenset(
    {
        ATTEMPT, MADE_ID, ORIGIN_EXCHANGE, ORIGIN_KEY, PUBLISHED_AT, REDELIVERED, REPLAYED_AT, REPLAYS, ORIGINAL,
        ORIGIN_QUEUE, FIRST_ERROR, LAST_ERROR, DRAIN_EXPIRATION,
    }
)  # fmt: skip
#: Headers that contain the name of a queue.
_QUEUES = frozenset({ORIGIN_QUEUE, FIRST_DEATH_QUEUE, "x-last-death-queue"})
#: A number over the first limit, the year 5138, is in milliseconds, as clients in other languages send them. A number
#: over the second limit is in microseconds.
_MAX_SECONDS, _MAX_MILLISECONDS, _MAX_MICROSECONDS = 10**11, 10**14, 10**17
#: The last second of Python's last date, minus one day for time zones.
_LAST_SECOND = 253_402_300_799 - 86_400
MAX_MILLISECONDS = _LAST_SECOND * 1000
#: The maximum number of bytes in a short string (AMQP 0-9-1, 4.2.5.3), and the bytes that are kept of a longer name.
_SHORT, _SHOWN = 255, 200


class Timestamp(int):
    """An AMQP timestamp outside the range of Python's dates."""


class Undecoded(bytes):
    """The bytes of a value that cannot be decoded: type, length and content."""


def from_sender(headers: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the headers of a message that was published to an exchange, without the headers that only copies have.

    Copies are published to the default exchange. If a sender uses these names itself, its headers are moved into
    ``x-original``.
    """
    if _OF_COPIES.isdisjoint(headers):
        return headers
    forged = {name: value for name, value in headers.items() if name in _OF_COPIES}
    return {name: value for name, value in headers.items() if name not in forged} | {ORIGINAL: forged}


def copy_headers(headers: Mapping[Any, Any], *, keep_history: bool = False) -> dict[Any, Any]:
    """Return the headers for a copy. Headers that steer the broker are moved into ``x-original``.

    The broker's own headers are kept only with ``keep_history``.
    """
    kept = {
        name: value
        for name, value in headers.items()
        if name not in STEERING and (keep_history or not str(name).startswith(_BROKER))
    }
    steering = [(name, value) for name, value in headers.items() if name in STEERING]
    return with_original(kept, steering) if steering else kept


def renamed_headers(headers: Mapping[Any, Any], names: Mapping[str, str]) -> dict[Any, Any]:
    """Return the headers of a copy, with the new names of queues, so that a replay finds the queues.

    ``names`` maps each old name to the new name. Only headers of copies and of the broker contain names of queues.
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
    """Return the headers with ``values`` added to ``x-original``. Its earlier values are kept."""
    earlier = headers.get(ORIGINAL)
    if isinstance(earlier, Undecoded):
        earlier = {ORIGINAL: earlier}  # the table is nested too deeply to be merged
    return {**headers, ORIGINAL: {**dict(values), **(earlier if isinstance(earlier, Mapping) else {})}}


def count_of(value: object) -> int:
    """Return a count in a header, or 0 for a value that FastCommerce does not write."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT else 0


def milliseconds_of(value: object) -> int | None:
    """Return a header's time in milliseconds since the epoch, or None for a value that FastCommerce does not write."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= MAX_MILLISECONDS else None  # type: ignore[call-overload,operator]


def seconds_of(value: object) -> float | None:
    """Return the seconds since the epoch for a time in any unit that clients use, or None for any other value."""
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
    """Return an id or name from a property as text that fits a short string, even if it is not UTF-8."""
    if type(value) is str:  # the usual case
        return value
    if not value:
        return ""
    escaped = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    if len(raw := escaped.encode("utf-8", "backslashreplace")) > _SHORT:
        # Different names must remain different.
        escaped = raw[:_SHOWN].decode("utf-8", "ignore") + hashlib.sha256(raw).hexdigest()[:16]
    return escaped


def short_of(value: object) -> str:
    """Return a name from a header, or an empty string for a value that does not fit a short string."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) and len(value.encode("utf-8", "replace")) <= _SHORT else ""
