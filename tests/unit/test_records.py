"""Rows that audit did not write, or that another client changed, are reported in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from runner.errors import StoreError
from runner.history.order_history import read_history
from runner.history.records import attempts_of, events_of, find_events
from runner.ledger.recorded_fates import audited_events, fates, inbox_events, outbox_events

EVENT = {
    "id": "e", "type": "order.created", "order_id": "o", "published_at": 1, "exchange": "x", "routing_key": "k",
    "app_id": None, "causation_id": None, "content_type": None, "headers": "{}", "body": "{}",
}  # fmt: skip
ATTEMPT = {
    "order_id": "o", "message_id": "m", "message_type": "t", "queue": "q", "service": "s", "instance": "s.1",
    "attempt": 1, "replays": 0, "outcome": "handled", "error": None, "delay": None, "sent_at": None, "began_at": 1,
    "ended_at": 2, "redelivered": 0, "replayed_at": None, "pid": None,
}  # fmt: skip


def reading(event: dict[str, Any], attempt: dict[str, Any]) -> Any:
    def read(sql: str, _: object) -> Sequence[Sequence[Any]]:
        if " order_statuses" in sql:
            return []
        return [list((event if " events" in sql else attempt).values())]

    return read


def test_a_row_of_audit_is_read() -> None:
    read = reading(EVENT, ATTEMPT)
    assert events_of(read, "o")[0].headers == {}
    assert attempts_of(read, "o")[0].redelivered is False
    assert read_history(read, "o") is not None


def test_a_row_of_a_former_version_gets_the_present_outcome() -> None:
    assert attempts_of(reading(EVENT, {**ATTEMPT, "outcome": "parked"}), "o")[0].outcome == "dead_lettered"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("published_at", value) for value in ("x", None, 1.5, b"1")),
        *(("headers", value) for value in ("{", "5", "[]", "[" * 100_000, b"{}", None, 5)),
        *(("body", value) for value in (b"\xff", 5, None)),
        *(("id", 5), ("type", None), ("app_id", 5), ("causation_id", b"e")),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_an_event_with_a_wrong_type_is_named_with_its_column(column: str, value: Any) -> None:
    read = reading({**EVENT, column: value}, ATTEMPT)
    for look in (lambda: events_of(read, "o"), lambda: find_events(read, limit=5), lambda: read_history(read, "o")):
        with pytest.raises(
            StoreError, match=rf"^store\.url: table events, column {column}: not a valid value, "
        ) as caught:
            look()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("attempt", "x"), ("began_at", None), ("ended_at", 1e300), ("delay", "a"), ("replays", b""), ("queue", 5),
        ("outcome", "nope"), ("outcome", 5), ("redelivered", "no"), ("replayed_at", 0.5), ("pid", "x"),
    ],
)  # fmt: skip
def test_an_attempt_with_a_wrong_type_is_named_with_its_column(column: str, value: Any) -> None:
    with pytest.raises(StoreError, match=rf"^store\.url: table attempts, column {column}: not a valid value, "):
        read_history(reading(EVENT, {**ATTEMPT, column: value}), "o")


ROWS = {
    "events": ["e", "t", "o", 1, "x", "k"],
    "outbox": [b'[{"id": "e", "type": "t"}]', 1],
    "inbox": ["q", "m", b'[{"id": "e", "type": "t"}]', 1],
    "attempts": ["q", "m", "handled", 0, "t", "o", 1, 2, "s", 1],
}
LOOKS: dict[str, Callable[..., Any]] = {
    "events": audited_events,
    "outbox": outbox_events,
    "inbox": lambda read: inbox_events(read, {}),
    "attempts": lambda read: fates(read, {}),
}


@pytest.mark.parametrize(
    ("table", "index", "value"),
    [
        ("events", 3, "x"), ("events", 0, None), ("events", 4, 5), ("outbox", 0, b"{"), ("outbox", 0, b"5"),
        ("outbox", 0, b'[{"type": "t"}]'), ("outbox", 0, b"[5]"), ("outbox", 0, None), ("outbox", 1, "x"),
        ("inbox", 2, b"[" * 100_000), ("inbox", 2, "[]"), ("inbox", 2, b"\xff\xff\xff"), ("inbox", 3, None),
        ("attempts", 3, "x"), ("attempts", 7, None), ("attempts", 9, 0.5), ("attempts", 0, 5),
    ],
    ids=lambda value: repr(value)[:12],
)  # fmt: skip
def test_the_ledger_names_a_row_with_a_wrong_type(table: str, index: int, value: object) -> None:
    look = LOOKS[table]
    right: list[object] = list(ROWS[table])
    assert list(look(lambda *_: [right]))
    wrong = [*right[:index], value, *right[index + 1 :]]
    with pytest.raises(StoreError, match=rf"^store\.url: table {table}, column [a-z_]+: not a valid value, "):
        list(look(lambda *_: [right, wrong]))
