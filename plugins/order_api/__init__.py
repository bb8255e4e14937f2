"""Take orders over HTTP and publish each as ``order.created``.

``POST /orders`` answers 202 only once the broker has confirmed and routed the event, or with ``outbox: true`` once
order and event are committed, so an accepted order is never lost.

- ``order.py`` says what an order is, and ``event.py`` what its event holds.
- ``api.py`` says what each URL answers, ``problem.py`` how it refuses, and ``openapi.py`` describes both for programs.
- ``fast_path.py`` takes plain orders without a thread, and ``log_writer.py`` writes their log lines.
- ``outbox.py`` keeps what is to be sent.
- ``server.py`` listens, ``loop.py`` waits for its sockets, and ``channel.py`` is one connection.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from runner import Context, Contract, Tables, hookimpl

from .event import OrderCreated

MAX_THREADS = 256


class Options(BaseModel):
    """The options of the plugin order_api."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on; 0.0.0.0: all addresses.")
    port: int = Field(8000, ge=0, le=65535, description="The TCP port to listen on; 0: any free port.")
    outbox: bool = Field(
        False,
        description="Accept orders while the broker is unreachable: answer 202 after a commit and send events later.",
    )
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


@hookimpl
def contract(options: Options) -> Contract:
    """Say that each accepted order becomes an event."""
    return Contract(
        publishes={"order.created": OrderCreated},
        listens=[(options.host, options.port)],
        statuses={"order.created": "accepted"},
    )


@hookimpl
def tables(options: Options) -> Tables | None:
    """Declare the table of accepted orders, which only an API with an outbox has."""
    from .outbox import orders

    return Tables(orders().metadata) if options.outbox else None


@hookimpl
def run(options: Options, context: Context) -> None:
    """Serve until the service is to stop."""
    # Imported here because the options are also checked by programs that never serve a request.
    from .api import create_app
    from .fast_path import FastPath
    from .outbox import Outbox
    from .server import Server

    outbox = Outbox(context) if options.outbox else None
    app = create_app(options, context, outbox)
    fast_path = FastPath(options, context) if outbox is None else None
    with Server(app, options, context, fast_path) as server:
        if outbox is not None:
            outbox.start()
        context.ready(f"listening on {server.url}", needs_broker=outbox is None)
        server.serve(context.wait_stop)
    if outbox is not None:
        outbox.stop(1.0)
