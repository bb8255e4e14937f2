"""Accept orders over HTTP and publish each as ``order.created``.

``POST /orders`` answers 202 only once the broker has confirmed and routed the event, or with ``outbox: true`` once
order and event are committed, so an accepted order is never lost.

- ``order.py`` is the model of an order, with its ids and its event.
- ``api.py`` answers each URL, and finds what became of an order. ``openapi.json`` describes that for programs,
  ``problems.py`` has the refusals.
- ``order_outbox.py`` commits orders with their events.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from runner import Context, Contract, Tables, hookimpl
from runner.http import MAX_THREADS


class Options(BaseModel):
    """The options of the plugin order_api."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0: all addresses.")
    port: int = Field(8000, ge=0, le=65535, description="The TCP port to listen on; 0: any free port.")
    outbox: bool = Field(
        False,
        description="Accept orders while the broker is unreachable: answer 202 after a commit and send events later.",
    )
    direct: bool = Field(True, description="Accept plain orders without a thread; has no effect with `outbox`.")
    threads: int = Field(
        16,
        ge=1,
        le=MAX_THREADS,
        description="The number of threads for orders with `outbox`, look-ups and refusals; other orders need none.",
    )
    allowed_hosts: list[Annotated[str, Field(min_length=1)]] = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="The values that a request's Host header may have, besides `host`; '*': any value.",
    )


class OrderCreated(BaseModel):
    """The body of the event order.created: an order was accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    order_id: str = Field(description="The order's id, a UUID.")
    customer_email: str = Field(description="The customer's address, in its normal form.")
    amount: str = Field(description="The amount as decimal text, such as 149.99: JSON numbers lose digits.")
    currency: str = Field(description="An ISO 4217 code, in capitals.")
    region: str | None = Field(description="The region that the customer named, or null.")


@hookimpl
def contract(options: Options) -> Contract:
    """Declare that each accepted order becomes an event."""
    return Contract(
        publishes={"order.created": OrderCreated},
        listens=[(options.host, options.port)],
        statuses={"order.created": "accepted"},
    )


@hookimpl
def tables(options: Options) -> Tables | None:
    """Declare the table of accepted orders, which only an API with an outbox has."""
    if not options.outbox:
        return None
    from .order_outbox import orders

    return Tables(orders().metadata)


@hookimpl
def run(options: Options, context: Context) -> None:
    """Serve until the service is to stop."""
    # Imported here because the options are also checked by programs that never serve a request.
    from runner.http import serve

    from .api import create_app, place_directly
    from .order_outbox import OrderOutbox

    outbox = OrderOutbox(context) if options.outbox else None
    serve(
        create_app(options, context, outbox),
        context,
        host=options.host,
        port=options.port,
        allowed_hosts=options.allowed_hosts,
        threads=options.threads,
        direct={("POST", "/orders"): place_directly} if options.direct and outbox is None else None,
        needs_broker=outbox is None,
    )
