"""The rows of the database about messages: their publishes, and the outcome of each in each queue."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from runner.history.records import DATA, NUMBER, OPTIONAL_TEXT, TEXT, Read, check_row, unreadable

#: How many ids one question names at most; for more, all is read.
MOST_NAMED = 500
_TRY = (
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
_TRY_COLUMNS = (
    ("queue", TEXT), ("message_id", TEXT), ("outcome", TEXT), ("replays", NUMBER), ("message_type", TEXT),
    ("order_id", OPTIONAL_TEXT), ("sent_at", NUMBER), ("ended_at", NUMBER), ("service", TEXT), ("attempt", NUMBER),
)  # fmt: skip
_DIGITS = str.maketrans("0123456789", "abcdefghij")


class Published(NamedTuple):
    """One event that was published; the time is in milliseconds since the epoch."""

    id: str
    type: str
    order_id: str | None
    at: int
    exchange: str = ""
    key: str = ""
    #: The queue and the id of the message that it was made of, where that message's inbox row tells of the event: it
    #: goes out before that message is acknowledged, and not before it is committed.
    maker: tuple[str, str] | None = None


@dataclass(slots=True)
class Fate:
    """What is written down of one message in one queue."""

    type: str
    order_id: str | None
    #: When it was sent to the queue, as far as its tries tell.
    at: int
    is_handled: bool = False
    #: Each try that handled it: how often it had been replayed before, when the try ended, and of which service.
    handled: tuple[tuple[int, int, str], ...] = ()
    #: Its last try, and the last time that a person discarded it: the number of replays before, and of the attempt.
    tried: tuple[int, int] = (0, 0)
    discarded: tuple[int, int] = (0, 0)

    @property
    def is_discarded(self) -> bool:
        """Whether a person discarded it, and it was not tried after that, as where the discarding was broken off.

        By the numbers of the tries, since clocks of two machines differ.
        """
        return self.discarded > self.tried

    def is_twice(self, since: int = 0) -> bool:
        """Whether it was handled more than once, at ``since`` or later, without having been replayed between."""
        replays = [count for count, ended, _ in self.handled if ended >= since]
        return len(replays) > len({*replays})

    def is_wrong(self, service: str, inbox: InboxRows, done: int) -> bool:
        """Whether a service's inbox, which had the message done at ``done``, should have kept it from a second time.

        A try ends before its row is committed, and what was handled before the inbox was there is not its fault; nor
        is what another service handled that reads the same queue.
        """
        own = replace(self, handled=tuple(one for one in self.handled if one[2] == service))
        return own.is_twice() and (own.is_twice(inbox.since) or any(ended > done for _, ended, _ in own.handled))


#: The present names of renamed queues, by their former names: the rows of before count for the same queue.
Names = Mapping[str, str]
#: By queue, then by message id.
Fates = dict[str, dict[str, Fate]]


@dataclass(frozen=True, slots=True)
class InboxRows:
    """What the inbox of one service holds of one queue."""

    #: When the first of its messages was done that is still known.
    since: int
    #: When each message was done, by its id.
    done: Mapping[str, int]


def audited_events(read: Read) -> Iterator[Published]:
    """All events that audit wrote down."""
    for row in read("SELECT id, type, order_id, published_at, exchange, routing_key FROM events", {}):
        check_row("events", _EVENT_COLUMNS, row)
        yield Published._make((*row, None))


def outbox_events(read: Read) -> Iterator[Published]:
    """The events of the outbox that the broker has confirmed and that are not forgotten yet."""
    for row in read("SELECT event, created_at FROM outbox WHERE sent_at IS NOT NULL", {}):
        check_row("outbox", _OUTBOX_COLUMNS, row)
        yield from _published("outbox", "event", row[0], row[1], None)


def unsent(read: Read) -> frozenset[str]:
    """The ids of the events of the outbox that the broker has not confirmed: the outbox sends them again."""
    return frozenset(str(row[0]) for row in read("SELECT event_id FROM outbox WHERE sent_at IS NULL", {}))


def inbox_events(read: Read, renamed: Names) -> Iterator[Published]:
    """The events that services with an inbox made of their messages."""
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
    """What each service's inbox holds of each queue; of all messages, or only of those with these ids."""
    statement = "SELECT service, queue, message_id, done_at FROM inbox"
    found: dict[tuple[str, str], dict[str, int]] = {}
    for where, given in [("", {})] if ids is None else _named("message_id", ids):
        for row in read(statement + where, given):
            check_row("inbox", _DONE_COLUMNS, row)
            service, queue, id, done = row
            found.setdefault((service, renamed.get(queue, queue)), {})[id] = done
    return {key: InboxRows(min(done.values()), done) for key, done in found.items()}


def fates(read: Read, renamed: Names, ids: Collection[str] | None = None) -> Fates:
    """What the notes tell: of all messages, or only of those with these ids and perhaps of others."""
    found: Fates = {}
    # There is no index for ids, so that each question costs as much as reading all.
    for where, given in [("", {})] if ids is None or len(ids) > MOST_NAMED else _named("message_id", ids):
        for row in read(f"SELECT {_TRY} FROM attempts{where}", given):  # noqa: S608
            check_row("attempts", _TRY_COLUMNS, row)
            _add(found, row, renamed)
    return found


def first_notes(read: Read) -> dict[str, int]:
    """When the first try of each service began that was written down."""
    rows = read("SELECT service, min(began_at) FROM attempts WHERE outcome <> 'discarded' GROUP BY service", {})
    for row in rows:
        check_row("attempts", (("service", TEXT), ("began_at", NUMBER)), row)
    return {service: began for service, began in rows}


def events_among(read: Read, ids: Collection[str]) -> set[str]:
    """Which of these events audit has written down."""
    return {str(row[0]) for where, given in _named("id", ids) for row in read(f"SELECT id FROM events{where}", given)}  # noqa: S608


def _named(column: str, ids: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Conditions for all of these ids, a part of them each, with their parameters."""
    every = sorted(ids)
    for begin in range(0, len(every), MOST_NAMED):
        # The names of parameters are letters alone.
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
