"""Report each large order in the log.

A handler publishes an event with ``return Event("order.large", {"order_id": ...})``. ``publishes`` in config.yaml lists
the events of a service, as in ``publishes: {orders.topic: [order.large]}``.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner import Context, Contract, Message, Reject, hookimpl


class Options(BaseModel):
    """The keys under ``options`` in config.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Decimal = Field(Decimal(1000), gt=0, description="An order over this amount is large, in any currency.")


class IncomingOrder(BaseModel):
    """The fields of ``order.created`` that this service reads."""

    order_id: str
    amount: Decimal
    currency: str


@hookimpl
def contract() -> Contract:
    """Declare the events that this service handles, so that ``check`` compares them with the publishers."""
    return Contract(handles={"order.created": IncomingOrder})


@hookimpl
def start(context: Context) -> Context:
    """Return the resources for ``handle``: the context, which contains the logger."""
    return context


@hookimpl
def handle(message: Message, options: Options, resources: Context) -> None:
    """Handle one order. ``Reject`` dead-letters the message at once. After any other exception it is retried."""
    try:
        order = IncomingOrder.model_validate(message.json())
    except ValidationError as error:
        raise Reject(f"not an order: {error.error_count()} wrong fields") from None
    if order.amount > options.limit:
        text = "order %s is large: %s %s"
        resources.log.info(text, order.order_id, order.amount, order.currency, extra={"order": order.order_id})
