"""Payment and notification in one FastStream process, to measure the cost of separate processes.

usage: python -m bench.peers.latency_faststream AMQP-URL

The shipped plugins do the work: reading the order, building the outcome's event, rendering the e-mail. So only the
framework differs, and messages between the two steps still pass through the broker. The settings are:

- A prefetch count, and publisher confirms with returned messages as errors ("Rabbit Channel").
- Queues and exchanges that exist already ("Rabbit Queue/Exchange", ``declare=False``).
- uvloop.
- The outcome is published and confirmed before the handler returns, and so before the ack ("Acknowledgement").
"""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any, cast

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from bench.latency_mail import TimedTransport
from plugins.notification.notifier import LogTransport, Notifier
from plugins.notification.template import load_templates
from plugins.payment import Gateway, Options, outcome_event, read_order
from runner import Message

PREFETCH = 100


def make_app(url: str) -> FastStream:
    """Create the application."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("service")
    channel = Channel(prefetch_count=PREFETCH, publisher_confirms=True, on_return_raises=True)
    broker = RabbitBroker(url, default_channel=channel, logger=log)
    payments = RabbitExchange("payments.topic", type=ExchangeType.TOPIC, durable=True, declare=False)
    gateway = Gateway(Options(failure_rate=0.0, latency=cast(Any, "0ms")), log)
    notifier = Notifier(load_templates(None), "FastCommerce <shop@example.com>", TimedTransport(LogTransport(log)))
    store = cast(Any, SimpleNamespace(inbox=False))

    def queue(name: str) -> RabbitQueue:
        return RabbitQueue(name, durable=True, declare=False)

    def message_of(message: RabbitMessage, source: str) -> Message:
        raw = message.raw_message
        timestamp = int(raw.timestamp.timestamp()) if raw.timestamp else None
        return Message(
            body=message.body, queue=source, type=raw.type or "", id=raw.message_id or "",
            correlation_id=str(raw.correlation_id or ""), timestamp=timestamp,
        )  # fmt: skip

    @broker.subscriber(queue("payment.order.created"), ack_policy=AckPolicy.NACK_ON_ERROR)
    async def pay(message: RabbitMessage) -> None:
        order = read_order(message_of(message, "payment.order.created"))
        log.info("order %s: charging %s %s, attempt %s", order.order_id, order.amount, order.currency, 1)
        reason = gateway.charge(order, 1)
        event = outcome_event(order, reason)
        log.info("order %s: %s", order.order_id, reason or "approved")
        await broker.publish(
            json.dumps(event.body).encode(), exchange=payments, routing_key=event.type, mandatory=True, persist=True,
            message_type=event.type, correlation_id=event.correlation_id, content_type="application/json",
        )  # fmt: skip

    @broker.subscriber(queue("notification.order.events"), ack_policy=AckPolicy.NACK_ON_ERROR)
    async def tell_of_order(message: RabbitMessage) -> None:
        notifier.notify(message_of(message, "notification.order.events"), store)

    @broker.subscriber(queue("notification.payment.events"), ack_policy=AckPolicy.NACK_ON_ERROR)
    async def tell_of_payment(message: RabbitMessage) -> None:
        notifier.notify(message_of(message, "notification.payment.events"), store)

    return FastStream(broker, logger=None)


if __name__ == "__main__":
    uvloop.run(make_app(sys.argv[1]).run())
