"""kombu: consume, publish one event and wait for its confirm, acknowledge, until the process is stopped.

usage: python -m bench.peers.consume_kombu URL EXCHANGE PREFETCH

``ConsumerProducerMixin`` is what its page "Mixin Classes" recommends for a consumer that also publishes.
``transport_options={"confirm_publish": True}`` is from its page "pyamqp transport". The producer is the default.

Celery, which uses kombu, cannot do this work. Its workers accept tasks in Celery's own message format from Celery's own
queues, and return results rather than events. To read other JSON, Celery needs a consumer step, which is this kombu
consumer.
"""

from __future__ import annotations

import sys
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue
from kombu.mixins import ConsumerProducerMixin

from bench.peers.work import outcome


class Worker(ConsumerProducerMixin):  # type: ignore[misc]
    """A consumer that runs forever."""

    def __init__(self, connection: Any, exchange: str, prefetch: int) -> None:
        self.connection = connection
        self._exchange, self._prefetch = Exchange(exchange, "topic", durable=True, passive=True), prefetch

    def get_consumers(self, _: Any, channel: Any) -> list[Any]:
        """Return the consumer of the one queue."""
        queue = Queue("jobs", no_declare=True)
        return [
            Consumer(
                channel, [queue], callbacks=[self.handle], accept=["json"], prefetch_count=self._prefetch,
                auto_declare=False,
            )
        ]  # fmt: skip

    def handle(self, order: Any, message: Any) -> None:
        """Publish an event for the message and acknowledge the message."""
        event = outcome(order)
        self.producer.publish(
            event, exchange=self._exchange, routing_key="order.done", mandatory=True, delivery_mode=2,
            message_id=event["order_id"], serializer="json",
        )  # fmt: skip
        message.ack()


if __name__ == "__main__":
    with Connection(sys.argv[1], transport_options={"confirm_publish": True}) as connection:
        Worker(connection, sys.argv[2], int(sys.argv[3])).run()
