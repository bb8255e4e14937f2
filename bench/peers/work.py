"""What every consumer that is measured does with a message: parse it, and make one event of it."""

from __future__ import annotations

from typing import Any


def outcome(order: dict[str, Any]) -> dict[str, Any]:
    """The event of an order."""
    return {"order_id": order["order_id"], "amount": order["amount"], "currency": order["currency"]}
