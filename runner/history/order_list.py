"""The list of the latest orders, with the status, customer and times of each order."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner.history.order_history import build_history
from runner.history.order_summary import OrderSummary, facts_of, summarize
from runner.history.records import (
    OPTIONAL_TEXT,
    TEXT,
    AttemptRow,
    EventRow,
    Read,
    attempts_of_orders,
    check_row,
    statuses,
    unbodied_events,
)
from runner.messages import ACCEPTED, FAILED

#: The maximum number of events that a page of a filtered list reads. The next page continues there.
MOST_SEARCHED = 20_000
#: The number of events that one statement reads, and the number of orders whose rows one statement reads.
_CHUNK, _BATCH = 500, 100

#: ``body`` is NULL unless the event is its order's first event.
_LATEST = """\
SELECT id, order_id, published_at, CASE WHEN NOT EXISTS (
 SELECT 1 FROM events AS earlier
 WHERE earlier.order_id = events.order_id AND (earlier.published_at, earlier.id) < (events.published_at, events.id)
) THEN body END FROM events{where} ORDER BY published_at DESC, id DESC LIMIT :limit"""
_COLUMNS = [("id", TEXT), ("order_id", OPTIONAL_TEXT), ("published_at", (int,)), ("body", OPTIONAL_TEXT)]


class Position(NamedTuple):
    """The place of an event in the list of all events. A list of orders continues before a position."""

    #: Milliseconds since the epoch.
    published_at: int
    event_id: str

    @classmethod
    def parsed(cls, text: str) -> Position:
        """Return the position that ``str`` wrote. Raises ValueError for any other text."""
        time, dot, event_id = text.partition(".")
        is_time = time.isascii() and time.removeprefix("-").isdecimal() and len(time) <= 18
        if not dot or not is_time or not event_id.isprintable():
            raise ValueError(f"not a position, {text!r}; allowed: milliseconds since the epoch, a dot, and an event id")
        return cls(int(time), event_id)

    def __str__(self) -> str:
        return f"{self.published_at}.{self.event_id}"


@dataclass(frozen=True)
class OrderFilter:
    """The conditions on orders in a list. None means any order."""

    status: str | None = None
    #: The customer's address, or its beginning if it contains no domain. Upper and lower case are equal.
    email: str | None = None
    #: The first characters of the order id or of the customer's address.
    prefix: str | None = None
    #: The earliest start, in milliseconds since the epoch.
    since: int | None = None

    def accepts_start(self, order_id: str, body: str) -> bool:
        """Return True if an order with this id, and with this body of its first event, may belong to the list."""
        if self.prefix is not None and not order_id.startswith(self.prefix) and not _is_address(body, self.prefix):
            return False
        return self.email is None or _is_address(body, self.email)


@dataclass(frozen=True)
class OrderPage:
    """The newest matching orders before a position, newest first."""

    orders: Sequence[OrderSummary] = ()
    #: The position before which the next page continues, or None if no event is older.
    older: Position | None = None
    #: True if the search stopped because of the limit on read events.
    is_cut: bool = False
    #: The number of events that were read.
    searched: int = 0


@dataclass(frozen=True)
class _Start:
    """The first event of an order."""

    position: Position
    order_id: str
    body: str

    @property
    def facts(self) -> Mapping[str, str | None]:
        """The fields of the body that a list shows."""
        return facts_of(self.body)


@dataclass
class _Walk:
    """A walk over the events, newest first, that reads at most ``most`` events."""

    read: Read
    most: float
    before: Position | None
    count: int = field(default=0, init=False)
    is_finished: bool = field(default=False, init=False)

    def chunks(self, since: int | None, first: int) -> Iterator[list[_Start]]:
        """Yield the first events of orders, in chunks. The position before the next event is in ``before``.

        The first chunk contains at most ``first`` events.
        """
        while not self.is_finished and self.count < self.most:
            limit = int(min(_CHUNK if self.count else first, self.most - self.count))
            rows = _latest(self.read, self.before, since, limit)
            self.count += len(rows)
            self.is_finished = len(rows) < limit
            if rows:
                self.before = Position(rows[-1][2], rows[-1][0])
            yield [
                _Start(Position(at, event), order, body)
                for event, order, at, body in rows
                if order is not None and body is not None
            ]


def list_orders(
    read: Read,
    wanted: OrderFilter | None = None,
    *,
    before: Position | None = None,
    limit: int,
    most_searched: float = MOST_SEARCHED,
) -> OrderPage:
    """Return up to ``limit`` of the newest matching orders, and the position at which the next page begins.

    An order belongs to the list if its first event is recorded. ``most_searched`` limits the number of read events.
    """
    wanted = wanted or OrderFilter()
    status_of, walk = statuses(read), _Walk(read, most_searched, before)
    found: list[OrderSummary] = []
    last = before
    # Most orders have two or three events.
    for chunk in walk.chunks(wanted.since, first=min(_CHUNK, 4 * limit)):
        starts = [one for one in chunk if wanted.accepts_start(one.order_id, one.body)]
        # Without a filter by status, each start is an order of the list.
        size = _BATCH if wanted.status is not None else max(1, min(_BATCH, limit + 1 - len(found)))
        for at in range(0, len(starts), size):
            for start, one in _summaries(read, starts[at : at + size], status_of, wanted.status):
                if len(found) == limit:
                    return OrderPage(found, last, searched=walk.count)
                found.append(one)
                last = start.position
    if walk.is_finished:
        return OrderPage(found, searched=walk.count)
    return OrderPage(found, walk.before, is_cut=True, searched=walk.count)


def known_statuses(read: Read) -> list[str]:
    """Return every status that an order can have, in the order in which the plugins declare them."""
    return list(dict.fromkeys([ACCEPTED, *sorted(statuses(read).values()), FAILED]))


def _is_address(body: str, wanted: str) -> bool:
    """Return True if the address in ``body`` is ``wanted``, or begins with it if ``wanted`` contains no domain."""
    address, wanted = _folded(facts_of(body)["email"] or ""), _folded(wanted)
    has_domain = bool(wanted.partition("@")[2])
    return address == wanted if has_domain else address.startswith(wanted)


def _folded(email: str) -> str:
    # Unicode has several forms of the same character: é is one code point or two.
    return unicodedata.normalize("NFC", email).casefold()


def _latest(read: Read, before: Position | None, since: int | None, limit: int) -> Sequence[Sequence[Any]]:
    conditions = ["(published_at, id) < (:time, :event)"] if before is not None else []
    conditions += ["published_at >= :since"] if since is not None else []
    given = {"time": before and before.published_at, "event": before and before.event_id, "since": since}
    parameters = {name: value for name, value in given.items() if value is not None}
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = read(_LATEST.format(where=where), {**parameters, "limit": limit})
    for row in rows:
        check_row("events", _COLUMNS, row)
    return rows


def _summaries(
    read: Read, starts: Sequence[_Start], status_of: Mapping[str, str], wanted: str | None
) -> Iterator[tuple[_Start, OrderSummary]]:
    """Yield the orders that have the status ``wanted``, or all orders if ``wanted`` is None."""
    events = _by_order(unbodied_events, read, [one.order_id for one in starts])
    if wanted is not None:
        # Most orders need no attempts to see that they have another status.
        starts = [one for one in starts if _may_have(wanted, events[one.order_id], status_of)]
    attempts = _by_order(attempts_of_orders, read, [one.order_id for one in starts])
    for start in starts:
        order = start.order_id
        found = summarize(
            build_history(order, events[order], attempts[order], status_of), start.position.published_at, start.facts
        )
        if wanted in (None, found.status):
            yield start, found


def _may_have(status: str, events: Sequence[EventRow], status_of: Mapping[str, str]) -> bool:
    decisions = {status_of.get(one.type, ACCEPTED) for one in events} - {ACCEPTED}
    return status in (decisions or (ACCEPTED, FAILED))


def _by_order(rows_of: Callable[[Read, Sequence[str]], Sequence[Any]], read: Read, ids: Sequence[str]) -> Any:
    found: dict[str, list[EventRow | AttemptRow]] = defaultdict(list)
    for row in rows_of(read, ids):
        found[row.order_id].append(row)
    return found
