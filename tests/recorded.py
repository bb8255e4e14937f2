"""Rows of the event history of one order, which the tests invent."""

from __future__ import annotations

from typing import Any

from runner.history.order_history import OrderHistory, build_history
from runner.history.records import AttemptRow, EventRow
from tests.audited import STATUSES

T0 = 1_700_000_000_000
QUEUE = "payment.order.created"


def event(id: str, type: str, at: int, **fields: Any) -> EventRow:
    known: dict[str, Any] = {
        "order_id": "o1", "exchange": "x", "routing_key": type, "app_id": "payment", "causation_id": None,
        "content_type": "application/json", "headers": {}, "body": "{}",
    }  # fmt: skip
    return EventRow(**{**known, "id": id, "type": type, "published_at": T0 + at, **fields})


def created(at: int = 0) -> EventRow:
    return event("c", "order.created", at, app_id="order_api")


def success(at: int) -> EventRow:
    return event("p", "payment.success", at, causation_id="c")


def attempt(number: int, began: int, outcome: str = "handled", **fields: Any) -> AttemptRow:
    error, delay = ("gateway timed out", 1000) if outcome == "retried" else (None, None)
    known: dict[str, Any] = {
        "order_id": "o1", "message_id": "c", "message_type": "order.created", "queue": QUEUE, "service": "payment",
        "instance": "payment.2", "replays": 0, "error": "no card" if outcome == "dead_lettered" else error,
        "delay": delay, "sent_at": T0 + began - 20, "began_at": T0 + began, "ended_at": T0 + began + 50,
        "redelivered": False, "replayed_at": None,
    }  # fmt: skip
    return AttemptRow(**{**known, "attempt": number, "outcome": outcome, **fields})


def history(events: list[EventRow], attempts: list[AttemptRow]) -> OrderHistory:
    return build_history("o1", events, attempts, STATUSES)
