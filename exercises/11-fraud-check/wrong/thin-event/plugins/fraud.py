"""Decide about each new order, before payment charges it."""

from decimal import Decimal

from runner import Contract, Event, Message, hookimpl

#: The highest amount of an approved order.
LIMIT = Decimal(1000)


@hookimpl
def contract() -> Contract:
    """Declare the events that the service handles and publishes."""
    return Contract(handles={"order.created": None}, publishes={"order.approved": None, "order.rejected": None})


@hookimpl
def handle(message: Message) -> Event | None:
    """Approve or reject one order."""
    order = message.json()  # a dict with order_id, customer_email, amount, currency and region
    if Decimal(order["amount"]) > LIMIT:
        return Event("order.rejected", order)
    return Event("order.approved", {"order_id": order["order_id"]})
