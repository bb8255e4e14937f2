"""FastStream: consume, publish one confirmed event, acknowledge, until the process is stopped.

usage: python -m bench.peers.consume_faststream URL EXCHANGE PREFETCH

``@broker.subscriber`` and ``@broker.publisher`` are those of its documentation. ``prefetch_count`` also limits the
handlers that run at once ("Concurrency and Prefetch"). Its command line uses uvloop if it is installed. Confirms are on
by default. ``AckPolicy.NACK_ON_ERROR`` acknowledges after the handler has returned and the event is published. The log
of each message and the conversion by type hints, both on by default, are off here. This makes FastStream faster.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from bench.peers.work import outcome


async def consume(url: str, exchange_name: str, prefetch: int) -> None:
    """Consume until a signal stops the process."""
    broker = RabbitBroker(
        url,
        default_channel=Channel(prefetch_count=prefetch, on_return_raises=True),
        logger=None,
        apply_types=False,
    )
    exchange = RabbitExchange(exchange_name, type=ExchangeType.TOPIC, durable=True, declare=False)

    @broker.subscriber(RabbitQueue("jobs", durable=True, declare=False), ack_policy=AckPolicy.NACK_ON_ERROR)
    @broker.publisher(routing_key="order.done", exchange=exchange, persist=True, mandatory=True)
    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        return outcome(order)

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(consume(sys.argv[1], sys.argv[2], int(sys.argv[3])))
