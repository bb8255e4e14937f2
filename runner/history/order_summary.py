"""One order in a list: its status, times, open messages, and the facts in its first event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.history.order_history import OrderHistory, moment

#: The fields of an event's body that can contain the customer's address, by priority.
EMAIL_FIELDS = ("customer_email", "email")


@dataclass(frozen=True)
class OrderSummary:
    """One order in the list. Times are in milliseconds."""

    order_id: str
    status: str
    #: The type of the event that decided the order.
    decided_by: str | None
    #: The time of the order's first event, since the epoch.
    started: int
    #: The time from the start to the first decision, or None if there is no decision yet.
    decided: int | None
    #: The fields of the first event's body, or None if the body does not contain the field.
    email: str | None
    amount: str | None
    currency: str | None
    #: The number of messages that wait for their next attempt.
    waiting: int
    #: The number of messages that are dead letters.
    dead_lettered: int


def summarize(history: OrderHistory, started: int, facts: Mapping[str, str | None]) -> OrderSummary:
    """Return the summary of an order. ``facts`` comes from ``facts_of``."""
    return OrderSummary(
        order_id=history.order_id,
        status=history.status,
        decided_by=history.decided_by,
        started=started,
        decided=history.totals.decided,
        email=facts["email"],
        amount=facts["amount"],
        currency=facts["currency"],
        waiting=len(history.waiting),
        dead_lettered=len(history.dead_lettered),
    )


def facts_of(body: str) -> dict[str, str | None]:
    """Return the ``email``, ``amount`` and ``currency`` in an event's body. A missing field is None."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    email = next((fields[name] for name in EMAIL_FIELDS if isinstance(fields.get(name), str)), None)
    return {"email": email, "amount": _scalar(fields.get("amount")), "currency": _scalar(fields.get("currency"))}


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else json.dumps(value)


def open_work(one: OrderSummary) -> str:
    """Return the order's open messages as text, such as ``1 waiting, 2 dead letters``, or an empty text."""
    dead = f"{one.dead_lettered} dead letter{'s' if one.dead_lettered > 1 else ''}" if one.dead_lettered else ""
    return ", ".join(text for text in (f"{one.waiting} waiting" if one.waiting else "", dead) if text)


def summary_json(one: OrderSummary) -> dict[str, Any]:
    """Return the order as JSON values, with the start as ISO 8601 text and durations in seconds."""
    return {
        "order_id": one.order_id,
        "status": one.status,
        "started": moment(one.started),
        "decided_after": None if one.decided is None else one.decided / 1000,
        "email": one.email,
        "amount": one.amount,
        "currency": one.currency,
        "waiting": one.waiting,
        "dead_lettered": one.dead_lettered,
    }
