"""Give a customer one point for each whole unit of an order's amount."""

from __future__ import annotations

import logging
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from runner import Context, Contract, Message, hookimpl


class PlacedOrder(BaseModel):
    """The fields of ``order.created`` that loyalty needs. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)

    order_id: str
    customer_email: str
    amount: Decimal = Field(gt=0)


@hookimpl
def contract() -> Contract:
    """Declare that the service handles each new order."""
    return Contract(handles={"order.created": PlacedOrder})


@hookimpl
def start(context: Context) -> logging.Logger:
    """Return the log, which is all that this service needs."""
    return context.log


@hookimpl
def handle(message: Message, resources: logging.Logger) -> None:
    """Write the points for one order to the log."""
    order = PlacedOrder.model_validate(message.json())
    named = {"order": order.order_id}
    resources.info("%d points for %s", int(order.amount), order.customer_email, extra=named)
