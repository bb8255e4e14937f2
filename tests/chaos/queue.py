"""The queues of the shop that have a consumer."""

from __future__ import annotations

QUEUES = (
    "payment.order.created",
    "notification.order.events",
    "notification.payment.events",
    "points.events",
    "audit.events",
)


def bad_type(queue: str) -> str:
    """Return the type for a bad message: neither an order nor an event that the queue's service can handle."""
    # Audit records all events, whatever their content, but not an attempt with a wrong body.
    return "runner.attempt" if queue == "audit.events" else "order.created"
