"""``POST /orders`` by FastAPI. FastStream publishes the event.

usage: python -m bench.peers.http_faststream AMQP-URL PORT

One uvicorn process without an access log uses uvloop and httptools, the fast loop and parser (uvicorn: "Settings",
"Implementation"). The application's lifespan starts the broker, because publishing needs no router (FastStream:
"FastAPI Plugin", "Integration with HTTP frameworks"). Publisher confirms are on, a returned message is an error, and
messages are mandatory and persistent (FastStream: ``Channel`` and ``RabbitBroker.publish``). The body is the bytes that
pydantic writes, so FastStream needs no serializer of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn
from aio_pika.exceptions import AMQPError
from fastapi import FastAPI, HTTPException
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange

from bench.peers.http_order import EXCHANGE, ROUTING_KEY, Accepted, Order, created


def make_app(url: str) -> FastAPI:
    """Create the application."""
    broker = RabbitBroker(url, default_channel=Channel(publisher_confirms=True, on_return_raises=True), logger=None)
    exchange = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True, declare=False)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with broker:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders", status_code=202)
    async def take_order(order: Order) -> Accepted:
        body, event_id, timestamp = created(order)
        try:
            await broker.publish(
                body.model_dump_json().encode(), exchange=exchange, routing_key=ROUTING_KEY,
                mandatory=True, persist=True, timeout=5.0, message_id=event_id, correlation_id=body.order_id,
                timestamp=timestamp, message_type=ROUTING_KEY, content_type="application/json",
            )  # fmt: skip
        except (AMQPError, TimeoutError) as error:
            raise HTTPException(503, str(error)) from None
        return Accepted(order_id=body.order_id, status="accepted", event_id=event_id)

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]),
        loop="uvloop", http="httptools", access_log=False, log_level="warning",
    )  # fmt: skip
