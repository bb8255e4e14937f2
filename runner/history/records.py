"""What audit wrote down, as it is read back: events, and tries of messages.

Each value is checked: SQLite keeps in a column whatever it is given, and a person may have changed a row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any

from runner.errors import StoreError

#: What a column of each kind may hold. SQLite has no booleans, and each driver has a type of its own for bytes.
TEXT, NUMBER, FLAG, DATA, OBJECT = (str,), (int,), (bool, int), (bytes, memoryview), (dict,)
OPTIONAL_TEXT, OPTIONAL_NUMBER = (str, NoneType), (int, NoneType)

#: The names and kinds of some columns.
Columns = Sequence[tuple[str, tuple[type, ...]]]


#: Gives the rows of a SELECT; its parameters stand in it as ``:name``.
Read = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

#: How many ids that begin alike are told of.
MOST_ALIKE = 5

_EVENT = "id, type, order_id, published_at, exchange, routing_key, app_id, causation_id, content_type, headers, body"
_ATTEMPT = (
    "order_id, message_id, message_type, queue, service, instance, attempt, replays, outcome, error, delay, sent_at,"
    " began_at, ended_at, redelivered, replayed_at"
)


@dataclass(frozen=True)
class EventRow:
    """One event; the time is in milliseconds since the epoch."""

    id: str
    type: str
    order_id: str | None
    published_at: int
    exchange: str
    routing_key: str
    app_id: str | None
    causation_id: str | None
    content_type: str | None
    headers: Mapping[str, Any]
    body: str


@dataclass(frozen=True)
class AttemptRow:
    """One try of one message; the columns of the table ``attempts``."""

    order_id: str | None
    message_id: str
    message_type: str
    queue: str
    service: str
    instance: str
    attempt: int
    replays: int
    outcome: str
    error: str | None
    delay: int | None
    sent_at: int | None
    began_at: int
    ended_at: int
    redelivered: bool
    replayed_at: int | None


#: What the columns of the same names hold, by the annotation of a field.
_KINDS = {
    "str": TEXT,
    "str | None": OPTIONAL_TEXT,
    "int": NUMBER,
    "int | None": OPTIONAL_NUMBER,
    "bool": FLAG,
    "Mapping[str, Any]": OBJECT,
}
_EVENT_COLUMNS, _ATTEMPT_COLUMNS = (
    [(one.name, _KINDS[str(one.type)]) for one in fields(kind)] for kind in (EventRow, AttemptRow)
)


def find_events(
    read: Read, *, order: str | None = None, type: str | None = None, since: int | None = None, limit: int
) -> tuple[list[EventRow], bool]:
    """The latest ``limit`` events, oldest first, and whether there are more; ``since`` in ms since the epoch."""
    conditions = ["order_id = :order"] if order is not None else []
    if type is not None:
        # As an expression it is looked for in no index: those of one order are few, those of one type are not.
        conditions.append("type = :type" if order is None else "type || '' = :type")
    conditions += ["published_at >= :since"] if since is not None else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_EVENT} FROM events{where} ORDER BY published_at DESC, id DESC LIMIT :limit"  # noqa: S608
    given = {"order": order, "type": type, "since": since}
    parameters = {name: value for name, value in given.items() if value is not None}
    rows = read(statement, {**parameters, "limit": limit + 1})
    return [_event(one) for one in reversed(rows[:limit])], len(rows) > limit


def events_of(read: Read, order: str) -> list[EventRow]:
    """All events of an order, oldest first."""
    statement = f"SELECT {_EVENT} FROM events WHERE order_id = :order ORDER BY published_at, id"  # noqa: S608
    return [_event(one) for one in read(statement, {"order": order})]


def attempts_of(read: Read, order: str) -> list[AttemptRow]:
    """All tries of the messages of an order, oldest first."""
    statement = f"SELECT {_ATTEMPT} FROM attempts WHERE order_id = :order ORDER BY began_at, id"  # noqa: S608
    rows = read(statement, {"order": order})
    # SQLite has no booleans.
    found = []
    for one in rows:
        check_row("attempts", _ATTEMPT_COLUMNS, one)
        found.append(AttemptRow(*one))
    return [replace(one, redelivered=bool(one.redelivered)) for one in found]


def statuses(read: Read) -> dict[str, str]:
    """Return the status of an order after an event, by the event's type."""
    return {str(event): str(status) for event, status in read("SELECT event_type, status FROM order_statuses", {})}


def orders_like(read: Read, prefix: str) -> list[str]:
    """The ids of orders that are, or begin with, ``prefix``: that one, or some of them in order, one more than told."""
    exact = "SELECT order_id FROM {} WHERE order_id = :prefix"
    if read(f"{exact.format('events')} UNION {exact.format('attempts')}", {"prefix": prefix}):
        return [prefix]
    # Not LIKE, in which some characters mean others, and whose case depends on the database.
    alike = "SELECT order_id FROM {} WHERE substr(order_id, 1, :length) = :prefix"
    statement = f"{alike.format('events')} UNION {alike.format('attempts')} ORDER BY order_id LIMIT :limit"
    rows = read(statement, {"prefix": prefix, "length": len(prefix), "limit": MOST_ALIKE + 1})
    return [str(one[0]) for one in rows]


def check_row(table: str, columns: Columns, row: Sequence[Any]) -> None:
    """Raise StoreError if a value is none that the services write; the error names its column."""
    for (name, kind), value in zip(columns, row, strict=True):
        if not isinstance(value, kind):
            raise unreadable(table, name, value)


def unreadable(table: str, column: str, value: object) -> StoreError:
    """Return the error for a value that the services do not write."""
    what = f"not what the services write, {value!r:.80}; correct or remove that row"
    return StoreError(f"store.url: table {table}, column {column}: {what}")


def _event(values: Sequence[Any]) -> EventRow:
    *first, headers, body = values
    if isinstance(headers, str):  # PostgreSQL's driver has read it already
        with contextlib.suppress(ValueError, RecursionError):  # then it stays the text that is refused
            headers = json.loads(headers)
    values = [*first, headers, body]
    check_row("events", _EVENT_COLUMNS, values)
    return EventRow(*values)
