"""``POST /orders`` by Flask on waitress, with pika in two simple ways.

usage: python -m bench.peers.http_flask connection|lock AMQP-URL PORT

``connection`` opens a connection for each request. ``lock`` keeps one channel behind a lock, because pika's connections
are not thread-safe (pika: "Frequently Asked Questions", "Is Pika thread safe?"). Both use ``BlockingConnection`` with
``confirm_delivery`` (pika: "Using Delivery Confirmations with the BlockingConnection"), so that ``basic_publish``
returns after the broker has routed and confirmed the event. Waitress has a thread for each client.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pika
from flask import Flask, Response, request
from pika.adapters.blocking_connection import BlockingChannel
from pydantic import ValidationError
from waitress import serve

from bench.peers.http_order import EXCHANGE, ROUTING_KEY, Accepted, Order, created

THREADS = 32


def open_channel(parameters: pika.URLParameters) -> BlockingChannel:
    """Open a channel with confirms on a new connection."""
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    return channel


@contextlib.contextmanager
def connection_for_each(parameters: pika.URLParameters) -> Iterator[BlockingChannel]:
    """Yield a channel of a new connection."""
    channel = open_channel(parameters)
    try:
        yield channel
    finally:
        channel.connection.close()


def behind_a_lock(parameters: pika.URLParameters) -> Callable[[], contextlib.AbstractContextManager[BlockingChannel]]:
    """Open one channel for all threads. Return a function that locks it and yields it."""
    channel, lock = open_channel(parameters), threading.Lock()

    @contextlib.contextmanager
    def take() -> Iterator[BlockingChannel]:
        with lock:
            yield channel

    return take


def make_app(take: Callable[[], contextlib.AbstractContextManager[BlockingChannel]]) -> Flask:
    """Create the application. ``take`` yields a channel for one event."""
    app = Flask("orders", static_folder=None)

    @app.post("/orders")
    def take_order() -> Response:
        try:
            order = Order.model_validate_json(request.get_data(cache=False))
        except ValidationError as error:
            return Response(error.json(), 422, mimetype="application/json")
        body, event_id, timestamp = created(order)
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=event_id,
            correlation_id=body.order_id, timestamp=timestamp, type=ROUTING_KEY,
        )  # fmt: skip
        try:
            with take() as channel:
                channel.basic_publish(
                    EXCHANGE, ROUTING_KEY, body.model_dump_json().encode(), properties, mandatory=True
                )
        except pika.exceptions.AMQPError as error:
            return Response(repr(error), 503)
        answer = Accepted(order_id=body.order_id, status="accepted", event_id=event_id)
        return Response(answer.model_dump_json(), 202, mimetype="application/json")

    return app


def main() -> None:
    """Serve until killed."""
    kind, url, port = sys.argv[1:]
    parameters = pika.URLParameters(url)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns about each request that waits
    take = behind_a_lock(parameters) if kind == "lock" else lambda: connection_for_each(parameters)
    serve(make_app(take), host="127.0.0.1", port=int(port), threads=THREADS, asyncore_use_poll=True)


if __name__ == "__main__":
    main()
