"""Log each large order.

A handler publishes an event with ``return Event("order.large", {"order_id": ...})``. ``publishes`` in config.yaml lists
the events of a service, for example ``publishes: {orders.topic: [order.large]}``.
"""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner import Context, Contract, Message, Reject, hookimpl


class Options(BaseModel):
    """The keys under ``options`` in config.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Decimal = Field(Decimal(1000), gt=0, description="An order over this amount, in any currency, is large.")


class IncomingOrder(BaseModel):
    """The fields of ``order.created`` that this service reads."""

    order_id: str
    amount: Decimal
    currency: str


@hookimpl
def contract() -> Contract:
    """Declare the events that this service handles, so that ``check`` can compare these events with the publishers."""
    return Contract(handles={"order.created": IncomingOrder})


@hookimpl
def start(context: Context) -> Context:
    """Return the context, whose logger ``handle`` uses."""
    return context


@hookimpl
def handle(message: Message, options: Options, resources: Context) -> None:
    """Handle one order.

    ``Reject`` dead-letters the message immediately. After any other exception, the message is retried.
    """
    try:
        order = IncomingOrder.model_validate(message.json())
    except ValidationError as error:
        raise Reject(f"not an order; number of invalid fields: {error.error_count()}") from None
    if order.amount > options.limit:
        text = "order %s is large: %s %s"
        resources.log.info(text, order.order_id, order.amount, order.currency, extra={"order": order.order_id})
