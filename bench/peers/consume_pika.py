"""pika: consume, publish one event and wait for its confirm, acknowledge, until the process is stopped.

usage: python -m bench.peers.consume_pika URL EXCHANGE PREFETCH

``BlockingConnection`` uses ``basic_consume`` and ``confirm_delivery``, as in pika's examples "Using Delivery
Confirmations with the BlockingConnection" and "Using the Blocking Connection to consume messages from RabbitMQ".
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pika

from bench.peers.work import outcome


def consume(url: str, exchange: str, prefetch: int) -> None:
    """Consume forever."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=prefetch)

    def handle(channel: Any, method: Any, _: Any, body: bytes) -> None:
        event = outcome(json.loads(body))
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=event["order_id"]
        )
        channel.basic_publish(exchange, "order.done", json.dumps(event).encode(), properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("jobs", handle)
    channel.start_consuming()


if __name__ == "__main__":
    consume(sys.argv[1], sys.argv[2], int(sys.argv[3]))
