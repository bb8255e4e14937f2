"""aio-pika: consume, publish one confirmed event, acknowledge, until the process is stopped.

usage: python -m bench.peers.consume_aio_pika asyncio|uvloop URL EXCHANGE PREFETCH

``queue.consume`` has a callback, which aio-pika runs as a task for each message, as in its "Quick start". ``set_qos``
is that of its tutorial "Work Queues". The handler awaits the confirm, then ``message.process()`` acknowledges.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aio_pika
import uvloop

from bench.peers.work import outcome


async def consume(url: str, exchange_name: str, prefetch: int) -> None:
    """Consume forever."""
    connection = await aio_pika.connect_robust(url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.set_qos(prefetch_count=prefetch)
    exchange = await channel.get_exchange(exchange_name, ensure=False)
    queue = await channel.get_queue("jobs", ensure=False)

    async def handle(message: Any) -> None:
        async with message.process():
            event = outcome(json.loads(message.body))
            await exchange.publish(
                aio_pika.Message(
                    json.dumps(event).encode(),
                    content_type="application/json",
                    message_id=event["order_id"],
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                ),
                "order.done",
                mandatory=True,
            )

    await queue.consume(handle)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run = uvloop.run if sys.argv[1] == "uvloop" else asyncio.run
    run(consume(sys.argv[2], sys.argv[3], int(sys.argv[4])))
