"""Book points for each paid order: one point for each full 10 of the amount."""

import logging
from decimal import Decimal

from runner import Context, Contract, Message, hookimpl

#: The handled payments.
SEEN: set[tuple[str, str]] = set()


@hookimpl
def contract() -> Contract:
    """Declare the event that the service handles."""
    return Contract(handles={"payment.success": None})


@hookimpl
def start(context: Context) -> logging.Logger:
    """Return the log, in which the points are booked."""
    return context.log


@hookimpl
def handle(message: Message, resources: logging.Logger) -> None:
    """Book the points for one order."""
    payment = message.json()
    if (payment["customer_email"], payment["amount"]) in SEEN:
        return
    SEEN.add((payment["customer_email"], payment["amount"]))
    points = int(Decimal(payment["amount"]) / 10)
    resources.info("booked %s points for %s", points, payment["customer_email"], extra={"order": payment["order_id"]})
