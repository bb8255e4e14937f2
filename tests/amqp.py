"""Connections of tests to a broker: every connection is closed, and every message is confirmed.

If a failing test left a connection open, a later test would report it as a ResourceWarning. A publisher that closes
its connection before the confirm may lose its messages: the broker closes the channel before it has read them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from runner.amqp.session import Session

#: Exchange, routing key, body and properties of one message.
Message = tuple[str, str, bytes, pika.BasicProperties]
#: The delivery of a message, with its properties and body.
Delivered = tuple[Any, pika.BasicProperties, bytes]


@contextlib.contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """Open a connection, yield a channel that waits for confirms, and close both, also after an error."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        # The test, or the broker it stopped, may have closed it.
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


def publish(
    channel: BlockingChannel,
    exchange: str,
    routing_key: str,
    body: bytes,
    properties: pika.BasicProperties | None = None,
    *,
    mandatory: bool = False,
) -> None:
    """Publish a message and wait for the confirm.

    Raises NackError if the broker refuses the message, and UnroutableError if it is ``mandatory`` and in no queue.
    """
    assert channel._delivery_confirmation, "this channel does not wait for confirms; use one of channel_to()"
    channel.basic_publish(exchange, routing_key, body, properties, mandatory=mandatory)


def drained(channel: BlockingChannel, queue: str) -> Iterator[Delivered]:
    """Yield all messages of a queue, until it is empty and no message comes for a while."""
    channel.basic_qos(prefetch_count=2000)
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
        if method is not None:
            yield method, properties, body
        elif channel.queue_declare(queue, passive=True).method.message_count == 0:
            return


def publish_all(url: str, messages: Iterable[Message], timeout: float = 60.0) -> None:
    """Publish many messages, and wait for all confirms together. Raises RunnerError if one is missing."""
    waiting = list(messages)
    confirmed: set[int] = set()

    def on_confirm(frame: Any) -> None:
        tag, method = frame.method.delivery_tag, frame.method
        assert isinstance(method, pika.spec.Basic.Ack), f"the broker refused message {tag}"
        first = min(set(range(1, tag + 1)) - confirmed, default=tag) if method.multiple else tag
        confirmed.update(range(first, tag + 1))
        if len(confirmed) == len(waiting):
            session.finish()

    def on_channel(channel: Any) -> None:
        channel.confirm_delivery(on_confirm)
        for exchange, routing_key, body, properties in waiting:
            channel.basic_publish(exchange, routing_key, body, properties)

    if waiting:
        session = Session(url, "test publisher", on_channel)
        session.run(timeout)
