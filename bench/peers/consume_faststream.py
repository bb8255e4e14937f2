"""FastStream: consume, publish one confirmed event, acknowledge; until it is ended.

usage: python -m bench.peers.consume_faststream URL EXCHANGE PREFETCH

``@broker.subscriber`` and ``@broker.publisher`` as in its documentation, with ``prefetch_count`` as its page
"Concurrency and Prefetch" has it: handlers of as many messages run at once. uvloop is what its command line uses
where it is installed. Confirms are on by default; ``AckPolicy.NACK_ON_ERROR`` acknowledges once the handler has
returned and the event is published. Its log of each message and its conversion by type hints, both on by default, are
off here, which makes it faster.
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
    """Work until a signal comes."""
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
