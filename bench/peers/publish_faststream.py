"""FastStream: publish N persistent, mandatory messages, wait for all confirms, and print the seconds.

usage: python -m bench.peers.publish_faststream URL EXCHANGE ROUTING_KEY N WINDOW

``broker.publish`` is that of its page "Publishing". ``persist``, which is off by default, is on. ``mandatory`` and
publisher confirms are on by default. WINDOW tasks publish at once, on uvloop, which its command line uses if it is
installed. The message is a dict, which FastStream encodes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import uvloop
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange

from bench.peers.body import body


async def publish(url: str, exchange_name: str, key: str, count: int, window: int) -> float:
    """Publish all messages, and return the seconds."""
    broker = RabbitBroker(url, default_channel=Channel(on_return_raises=True), log_level=logging.WARNING)
    exchange = RabbitExchange(exchange_name, type=ExchangeType.TOPIC, durable=True, declare=False)
    async with broker:
        await broker.connect()
        numbers = iter(range(1, count + 1))

        async def work() -> None:
            for number in numbers:
                event = body(number)
                await broker.publish(
                    event,
                    exchange=exchange,
                    routing_key=key,
                    persist=True,
                    mandatory=True,
                    message_id=event["order_id"],
                )

        began = time.perf_counter()
        await asyncio.gather(*(asyncio.create_task(work()) for _ in range(window)))
        return time.perf_counter() - began


if __name__ == "__main__":
    url, exchange, key, count, window = sys.argv[1:]
    sys.stdout.write(f"{uvloop.run(publish(url, exchange, key, int(count), int(window)))}\n")
