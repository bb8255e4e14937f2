"""The work of every consumer: parse the message, and create one event from it."""

from __future__ import annotations

from typing import Any


def outcome(order: dict[str, Any]) -> dict[str, Any]:
    """Return the event for an order."""
    return {"order_id": order["order_id"], "amount": order["amount"], "currency": order["currency"]}
