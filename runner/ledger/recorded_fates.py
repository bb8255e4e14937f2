"""The database's records of messages: published events, and the outcome of each message in each queue."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from runner.history.records import DATA, NUMBER, OPTIONAL_TEXT, TEXT, Read, check_row, unreadable

#: The maximum number of ids in one SELECT.
MOST_NAMED = 500
_ATTEMPT = (
    "queue, message_id, outcome, replays, message_type, order_id, coalesce(sent_at, began_at), ended_at, service,"
    " attempt"
)
_EVENT_COLUMNS = (
    ("id", TEXT), ("type", TEXT), ("order_id", OPTIONAL_TEXT), ("published_at", NUMBER), ("exchange", TEXT),
    ("routing_key", TEXT),
)  # fmt: skip
_OUTBOX_COLUMNS = (("event", DATA), ("created_at", NUMBER))
_INBOX_COLUMNS = (("queue", TEXT), ("message_id", TEXT), ("events", DATA), ("done_at", NUMBER))
_DONE_COLUMNS = (("service", TEXT), ("queue", TEXT), ("message_id", TEXT), ("done_at", NUMBER))
_ATTEMPT_COLUMNS = (
    ("queue", TEXT), ("message_id", TEXT), ("outcome", TEXT), ("replays", NUMBER), ("message_type", TEXT),
    ("order_id", OPTIONAL_TEXT), ("sent_at", NUMBER), ("ended_at", NUMBER), ("service", TEXT), ("attempt", NUMBER),
)  # fmt: skip
_DIGITS = str.maketrans("0123456789", "abcdefghij")


class Published(NamedTuple):
    """A published event, with the time of publishing in milliseconds since the epoch."""

    id: str
    type: str
    order_id: str | None
    at: int
    exchange: str = ""
    key: str = ""
    #: The queue and id of the message whose handler returned the event, if an inbox row contains the event. The event
    #: is published after this row is committed, and before the message is acknowledged.
    maker: tuple[str, str] | None = None


@dataclass(slots=True)
class Fate:
    """The recorded attempts on one message in one queue."""

    type: str
    order_id: str | None
    #: The earliest time at which the message was sent to the queue, according to the attempts.
    at: int
    is_handled: bool = False
    #: For each attempt that handled the message, the number of previous replays, the end time and the service.
    handled: tuple[tuple[int, int, str], ...] = ()
    #: The numbers of replays and attempts at the latest attempt and at the latest discard.
    tried: tuple[int, int] = (0, 0)
    discarded: tuple[int, int] = (0, 0)

    @property
    def is_discarded(self) -> bool:
        """True if the message was discarded and has no later attempt.

        An interrupted discard can be followed by an attempt.

        Attempt numbers are compared instead of times, because the clocks of two machines may differ.
        """
        return self.discarded > self.tried

    def is_twice(self, since: int = 0) -> bool:
        """Return True if the message was handled twice, at ``since`` or later, without a replay in between."""
        replays = [count for count, ended, _ in self.handled if ended >= since]
        return len(replays) > len({*replays})

    def is_wrong(self, service: str, inbox: InboxRows, done: int) -> bool:
        """Return True if a service's inbox failed to prevent repeated handling.

        ``done`` is the time of the message's inbox row. An attempt ends before its row is committed. Attempts before
        the first row of the inbox, and attempts by other services on the same queue, are ignored.
        """
        own = replace(self, handled=tuple(one for one in self.handled if one[2] == service))
        return own.is_twice() and (own.is_twice(inbox.since) or any(ended > done for _, ended, _ in own.handled))


#: The current names of renamed queues, by their previous names. Rows with either name belong to the same queue.
Names = Mapping[str, str]
#: The fates by queue, then by message id.
Fates = dict[str, dict[str, Fate]]


@dataclass(frozen=True, slots=True)
class InboxRows:
    """The inbox rows of one service and queue, with times in milliseconds since the epoch."""

    #: The time of the oldest row.
    since: int
    #: The time of each row by message id.
    done: Mapping[str, int]


def audited_events(read: Read) -> Iterator[Published]:
    """Yield all events that the ``audit`` plugin recorded. Raises StoreError for a row that no service writes."""
    for row in read("SELECT id, type, order_id, published_at, exchange, routing_key FROM events", {}):
        check_row("events", _EVENT_COLUMNS, row)
        yield Published._make((*row, None))


def outbox_events(read: Read) -> Iterator[Published]:
    """Yield the confirmed events that the outbox still contains. Raises StoreError."""
    for row in read("SELECT event, created_at FROM outbox WHERE sent_at IS NOT NULL", {}):
        check_row("outbox", _OUTBOX_COLUMNS, row)
        yield from _published("outbox", "event", row[0], row[1], None)


def unsent(read: Read) -> frozenset[str]:
    """Return the ids of unconfirmed outbox events, which the outbox relay publishes again."""
    return frozenset(str(row[0]) for row in read("SELECT event_id FROM outbox WHERE sent_at IS NULL", {}))


def inbox_events(read: Read, renamed: Names) -> Iterator[Published]:
    """Yield the events returned by the handlers of services that have an inbox. Raises StoreError."""
    for row in read("SELECT queue, message_id, events, done_at FROM inbox", {}):
        check_row("inbox", _INBOX_COLUMNS, row)
        queue, id, raw, done = row
        if len(raw) > len(b"[]"):
            yield from _published("inbox", "events", raw, done, (renamed.get(queue, queue), id))


def _published(table: str, column: str, raw: bytes, at: int, maker: tuple[str, str] | None) -> Iterator[Published]:
    try:
        yield from list(_decoded(raw, at, maker))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise unreadable(table, column, bytes(raw)) from None


def _decoded(raw: bytes, at: int, maker: tuple[str, str] | None) -> Iterator[Published]:
    for one in json.loads(bytes(raw)):
        order_id, exchange, key = one.get("correlation_id"), one.get("exchange") or "", one.get("routing_key") or ""
        yield Published(one["id"], one["type"], order_id, at, exchange, key, maker)


def inboxes(read: Read, renamed: Names, ids: Collection[str] | None = None) -> dict[tuple[str, str], InboxRows]:
    """Return the inbox rows by service and queue, for all messages or only for these ``ids``. Raises StoreError."""
    statement = "SELECT service, queue, message_id, done_at FROM inbox"
    found: dict[tuple[str, str], dict[str, int]] = {}
    for where, given in [("", {})] if ids is None else _named("message_id", ids):
        for row in read(statement + where, given):
            check_row("inbox", _DONE_COLUMNS, row)
            service, queue, id, done = row
            found.setdefault((service, renamed.get(queue, queue)), {})[id] = done
    return {key: InboxRows(min(done.values()), done) for key, done in found.items()}


def fates(read: Read, renamed: Names, ids: Collection[str] | None = None) -> Fates:
    """Return the fates of all messages, or at least of the messages with these ``ids``. Raises StoreError."""
    found: Fates = {}
    # The table has no index on message ids, so each SELECT reads all rows.
    for where, given in [("", {})] if ids is None or len(ids) > MOST_NAMED else _named("message_id", ids):
        for row in read(f"SELECT {_ATTEMPT} FROM attempts{where}", given):  # noqa: S608
            check_row("attempts", _ATTEMPT_COLUMNS, row)
            _add(found, row, renamed)
    return found


def first_attempts(read: Read) -> dict[str, int]:
    """Return the start of the first recorded attempt of each service, in milliseconds since the epoch.

    Raises StoreError for a row that no service could have written.
    """
    rows = read("SELECT service, min(began_at) FROM attempts WHERE outcome <> 'discarded' GROUP BY service", {})
    for row in rows:
        check_row("attempts", (("service", TEXT), ("began_at", NUMBER)), row)
    return {service: began for service, began in rows}


def events_among(read: Read, ids: Collection[str]) -> set[str]:
    """Return the subset of ``ids`` that belongs to recorded events."""
    return {str(row[0]) for where, given in _named("id", ids) for row in read(f"SELECT id FROM events{where}", given)}  # noqa: S608


def _named(column: str, ids: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield SQL conditions with their parameters, each for up to ``MOST_NAMED`` ids."""
    every = sorted(ids)
    for begin in range(0, len(every), MOST_NAMED):
        # Parameter names must not contain digits, because runner.history.reader accepts only a to z.
        some = enumerate(every[begin : begin + MOST_NAMED])
        given = {f"id{number}".translate(_DIGITS): one for number, one in some}
        yield f" WHERE {column} IN ({', '.join(f':{name}' for name in given)})", given


def _add(found: Fates, row: Sequence[Any], renamed: Names) -> None:
    queue, id, outcome, replays, type, order_id, at, ended, service, attempt = row
    queue = renamed.get(queue, queue)
    of_queue = found.get(queue)
    if of_queue is None:
        of_queue = found[queue] = {}
    one = of_queue.get(id)
    if one is None:
        one = of_queue[id] = Fate(type, order_id, at)
    elif at < one.at:
        one.at = at
    if outcome == "discarded":
        one.discarded = max(one.discarded, (replays, attempt))
        return
    one.tried = max(one.tried, (replays, attempt))
    if outcome == "handled":
        one.is_handled = True
        one.handled += ((replays, ended, service),)
    elif outcome == "duplicate":
        one.is_handled = True
