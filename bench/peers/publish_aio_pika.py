"""aio-pika: publish N persistent, mandatory messages, wait for all confirms, and print the seconds.

usage: python -m bench.peers.publish_aio_pika asyncio|uvloop URL EXCHANGE ROUTING_KEY N WINDOW

The page "Publisher Confirms" of its documentation says that asynchronous handling is fastest: a task for each message,
gathered in the end. Here at most WINDOW tasks run at once. Confirms are on by default, and a returned message raises an
error.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aio_pika
import uvloop

from bench.peers.body import body, encoded


async def publish(url: str, exchange_name: str, key: str, count: int, window: int) -> float:
    """Publish all messages, and return the seconds."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(exchange_name, ensure=False)
        numbers = iter(range(1, count + 1))

        async def work() -> None:
            for number in numbers:
                message = aio_pika.Message(
                    encoded(number),
                    content_type="application/json",
                    message_id=body(number)["order_id"],
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await exchange.publish(message, key, mandatory=True)

        began = time.perf_counter()
        await asyncio.gather(*(asyncio.create_task(work()) for _ in range(window)))
        return time.perf_counter() - began


if __name__ == "__main__":
    loop, url, exchange, key, count, window = sys.argv[1:]
    run = uvloop.run if loop == "uvloop" else asyncio.run
    sys.stdout.write(f"{run(publish(url, exchange, key, int(count), int(window)))}\n")
