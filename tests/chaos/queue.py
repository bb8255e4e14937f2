"""The queues of the shop that somebody consumes."""

from __future__ import annotations

QUEUES = (
    "payment.order.created",
    "notification.order.events",
    "notification.payment.events",
    "points.events",
    "audit.events",
)


def bad_type(queue: str) -> str:
    """The type of a message that is no order and no event, and that its queue's service cannot handle."""
    # Audit writes down any event whatever it holds, but no note of a try that is none.
    return "runner.attempt" if queue == "audit.events" else "order.created"
