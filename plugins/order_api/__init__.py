"""Accept orders over HTTP and publish each order as ``order.created``.

``POST /orders`` answers 202 only after the broker has routed and confirmed the event. With ``outbox: true``, the API
answers after the order and its event are committed. An accepted order is therefore never lost.

- ``order.py`` contains the model of an order, its ids and its event.
- ``api.py`` answers each URL and looks up the history of an order. ``openapi.json`` describes the API.
- ``problems.py`` contains the error responses.
- ``order_outbox.py`` commits orders with their events.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from runner import Context, Contract, Tables, hookimpl
from runner.http import MAX_THREADS


class Options(BaseModel):
    """The options of the ``order_api`` plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0 means all addresses.")
    port: int = Field(8000, ge=0, le=65535, description="The TCP port to listen on; 0 means any free port.")
    outbox: bool = Field(
        False,
        description="Accept orders even while the broker is unreachable: answer 202 after a database commit, and"
        " publish the events later.",
    )
    direct: bool = Field(
        True, description="Accept plain orders on the event loop, without a thread. This has no effect with `outbox`."
    )
    threads: int = Field(
        16,
        ge=1,
        le=MAX_THREADS,
        description="The number of threads for lookups, refusals and orders with `outbox`; others need no thread.",
    )
    allowed_hosts: list[Annotated[str, Field(min_length=1)]] = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="The allowed values of the Host header, in addition to `host`; '*' allows any value.",
    )


class OrderCreated(BaseModel):
    """The body of the ``order.created`` event, which reports an accepted order."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    order_id: str = Field(description="The order's id, a UUID.")
    customer_email: str = Field(description="The customer's address, in its normal form.")
    amount: str = Field(description="The amount as a decimal string, such as 149.99, because JSON numbers lose digits.")
    currency: str = Field(description="The currency, an ISO 4217 code in upper case.")
    region: str | None = Field(description="The region in the customer's order, or null.")


@hookimpl
def contract(options: Options) -> Contract:
    """Declare that the service publishes each accepted order and listens on its address."""
    return Contract(
        publishes={"order.created": OrderCreated},
        listens=[(options.host, options.port)],
        statuses={"order.created": "accepted"},
    )


@hookimpl
def tables(options: Options) -> Tables | None:
    """Declare the table of accepted orders, which is used only with ``outbox``."""
    if not options.outbox:
        return None
    from .order_outbox import orders

    return Tables(orders().metadata)


@hookimpl
def run(options: Options, context: Context) -> None:
    """Serve requests until the service must stop."""
    # Imported here, because commands such as ``check`` import the options but serve no requests.
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
