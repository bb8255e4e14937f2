"""Queries for the events and attempts that the ``audit`` service stored.

Each value is checked, because SQLite stores values of any type in any column, and a user may have changed a row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any

from runner.errors import StoreError

#: The Python types of each kind of column. SQLite has no booleans, and each driver has its own type for bytes.
TEXT, NUMBER, FLAG, DATA, OBJECT = (str,), (int,), (bool, int), (bytes, memoryview), (dict,)
OPTIONAL_TEXT, OPTIONAL_NUMBER = (str, NoneType), (int, NoneType)

#: The names of columns, with their kinds.
Columns = Sequence[tuple[str, tuple[type, ...]]]


#: A function that runs a SELECT statement with parameters such as ``:name``, and returns the rows.
Read = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

#: The maximum number of ids that are listed for an ambiguous prefix.
MOST_MATCHES = 5

#: The outcome of an attempt whose message was dead-lettered, and the name of this outcome in earlier versions.
DEAD_LETTERED, _FORMER_DEAD_LETTERED = "dead_lettered", "parked"

_EVENT = "id, type, order_id, published_at, exchange, routing_key, app_id, causation_id, content_type, headers, body"
_ATTEMPT = (
    "order_id, message_id, message_type, queue, service, instance, attempt, replays, outcome, error, delay, sent_at,"
    " began_at, ended_at, redelivered, replayed_at, pid"
)


@dataclass(frozen=True)
class EventRow:
    """One row of the ``events`` table, with the time in milliseconds since the epoch."""

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
    """One row of the ``attempts`` table."""

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
    #: The process id of the instance, or None if it is unknown.
    pid: int | None = None


#: The kind of each column, by the type annotation of the corresponding field.
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
    """Return the latest ``limit`` matching events, oldest first, and True if older events also match.

    ``since`` is in milliseconds since the epoch.
    """
    conditions = ["order_id = :order"] if order is not None else []
    if type is not None:
        # The concatenation prevents the use of the index on types, because an order has few events but a type has many.
        conditions.append("type = :type" if order is None else "type || '' = :type")
    conditions += ["published_at >= :since"] if since is not None else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_EVENT} FROM events{where} ORDER BY published_at DESC, id DESC LIMIT :limit"  # noqa: S608
    given = {"order": order, "type": type, "since": since}
    parameters = {name: value for name, value in given.items() if value is not None}
    rows = read(statement, {**parameters, "limit": limit + 1})
    return [_event(one) for one in reversed(rows[:limit])], len(rows) > limit


def events_of(read: Read, order: str) -> list[EventRow]:
    """Return all events of an order, oldest first."""
    statement = f"SELECT {_EVENT} FROM events WHERE order_id = :order ORDER BY published_at, id"  # noqa: S608
    return [_event(one) for one in read(statement, {"order": order})]


def attempts_of(read: Read, order: str) -> list[AttemptRow]:
    """Return all attempts on the messages of an order, oldest first."""
    statement = f"SELECT {_ATTEMPT} FROM attempts WHERE order_id = :order ORDER BY began_at, id"  # noqa: S608
    return _attempts(read(statement, {"order": order}))


def unbodied_events(read: Read, orders: Sequence[str]) -> list[EventRow]:
    """Return all events of several orders with empty headers and bodies, oldest first."""
    columns = _EVENT.replace("headers, body", "'{}', ''")
    ids = _ids(orders)
    statement = f"SELECT {columns} FROM events WHERE order_id IN ({_names(ids)}) ORDER BY published_at, id"  # noqa: S608
    return [_event(one) for one in read(statement, ids)]


def attempts_of_orders(read: Read, orders: Sequence[str]) -> list[AttemptRow]:
    """Return all attempts on the messages of several orders, oldest first."""
    ids = _ids(orders)
    statement = f"SELECT {_ATTEMPT} FROM attempts WHERE order_id IN ({_names(ids)}) ORDER BY began_at, id"  # noqa: S608
    return _attempts(read(statement, ids))


def _ids(orders: Sequence[str]) -> dict[str, str]:
    # The name of a parameter contains no digits, see ``reader``.
    return {f"id{chr(97 + number // 26)}{chr(97 + number % 26)}": order for number, order in enumerate(orders)}


def _names(parameters: Mapping[str, str]) -> str:
    return ", ".join(f":{name}" for name in parameters) or "NULL"


def all_attempts(read: Read) -> list[AttemptRow]:
    """Return all attempts on all messages, oldest first. The database must be small."""
    return _attempts(read(f"SELECT {_ATTEMPT} FROM attempts ORDER BY began_at, id", {}))  # noqa: S608


def _attempts(rows: Sequence[Sequence[Any]]) -> list[AttemptRow]:
    found = []
    for row in rows:
        check_row("attempts", _ATTEMPT_COLUMNS, row)
        found.append(AttemptRow(*row))
    # SQLite has no booleans, and an ``audit`` process of an earlier version may still insert old names of outcomes.
    return [replace(one, redelivered=bool(one.redelivered), outcome=present_outcome(one.outcome)) for one in found]


def present_outcome(outcome: Any) -> Any:
    """Return the current name of an outcome, which a process of an earlier version may have written."""
    return DEAD_LETTERED if outcome == _FORMER_DEAD_LETTERED else outcome


def statuses(read: Read) -> dict[str, str]:
    """Return the order status after each event type."""
    return {str(event): str(status) for event, status in read("SELECT event_type, status FROM order_statuses", {})}


def orders_like(read: Read, prefix: str) -> list[str]:
    """Return ``prefix`` if it is an order id. Otherwise, return up to 6 order ids with this prefix, sorted.

    The sixth id only indicates that more than ``MOST_MATCHES`` ids match.
    """
    exact = "SELECT order_id FROM {} WHERE order_id = :prefix"
    if read(f"{exact.format('events')} UNION {exact.format('attempts')}", {"prefix": prefix}):
        return [prefix]
    # LIKE treats % and _ as wildcards, and ignores case in some databases.
    alike = "SELECT order_id FROM {} WHERE substr(order_id, 1, :length) = :prefix"
    statement = f"{alike.format('events')} UNION {alike.format('attempts')} ORDER BY order_id LIMIT :limit"
    rows = read(statement, {"prefix": prefix, "length": len(prefix), "limit": MOST_MATCHES + 1})
    return [str(one[0]) for one in rows]


def check_row(table: str, columns: Columns, row: Sequence[Any]) -> None:
    """Check the types in a row. Raises StoreError for a type that services never write."""
    for (name, kind), value in zip(columns, row, strict=True):
        if not isinstance(value, kind):
            raise unreadable(table, name, value)


def unreadable(table: str, column: str, value: object) -> StoreError:
    """Return the error for a stored value that no service can have written."""
    what = f"not a valid value, {value!r:.80}; correct or delete the row"
    return StoreError(f"store.url: table {table}, column {column}: {what}")


def _event(values: Sequence[Any]) -> EventRow:
    *first, headers, body = values
    if isinstance(headers, str):  # only the PostgreSQL driver decodes JSON
        with contextlib.suppress(ValueError, RecursionError):  # check_row rejects text that is not JSON
            headers = json.loads(headers)
    values = [*first, headers, body]
    check_row("events", _EVENT_COLUMNS, values)
    return EventRow(*values)
