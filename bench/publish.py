"""Confirmed events a second of a publisher that has at most 1000 unconfirmed events.

Every event is persistent, mandatory, about 170 bytes of JSON, and goes through a topic exchange to one durable queue.
The product's publisher is a plugin whose ``run`` calls ``context.publish``. Its time is from the first call to the last
confirm.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

import pika

from bench import client
from bench.figure import Figure
from bench.ground import Ground, is_installed
from tests.rabbit import Vhost

NAME = "publish"
ABOUT = "confirmed publish through a plugin, beside a C client, pika, aio-pika and FastStream"

KEY = "order.created"
PLUGIN = """
import time

from pydantic import BaseModel

from bench.peers.body import body
from runner import Context, Event, hookimpl


class Options(BaseModel):
    count: int


@hookimpl
def run(options: Options, context: Context) -> None:
    context.ready("publishing")
    began = time.perf_counter()
    futures = [context.publish(Event("order.created", body(number))) for number in range(options.count)]
    for future in futures:
        future.result()
    print(f"published in {time.perf_counter() - began:.6f} s")
    context.wait_stop()
"""


def topology(queue_type: str) -> dict[str, object]:
    """Return an exchange, and a queue to which all its events are routed."""
    return {
        "defaults": {"queue_type": queue_type},
        "exchanges": {"orders": {"type": "topic"}},
        "queues": {"taken": {"bind": {"orders": ["order.#"]}}},
    }


def declare(vhost: Vhost, queue_type: str) -> None:
    """Declare the same objects for a peer."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost.url))) as connection:
        channel = connection.channel()
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare("taken", durable=True, arguments={"x-queue-type": queue_type})
        channel.queue_bind("taken", "orders", "order.#")


def ours(ground: Ground, queue_type: str, count: int) -> float:
    """Measure the product's events a second."""
    config = {
        "services": {"publish": {"publishes": {"orders": [KEY]}, "options": {"count": count}}},
    }
    with ground.vhost() as vhost:
        folder = ground.project(vhost, config, topology(queue_type), {"publish": PLUGIN})
        with ground.product(vhost, folder) as product:
            took = float(product.printed(r"published in ([\d.]+) s")[1])
        check(vhost, count)
    return count / took


def check(vhost: Vhost, count: int) -> None:
    """Raise RuntimeError if an event is missing from the queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost.url))) as connection:
        held = connection.channel().queue_declare("taken", passive=True).method.message_count
    if held != count:
        raise RuntimeError(f"{held} messages in the queue, {count} were published")


def peers(ground: Ground, quick: bool) -> dict[str, tuple[int, Callable[[Vhost, int], float]]]:
    """Return for each peer a number of events for a second or two, and a function that returns its seconds."""

    def script(name: str, *way: str) -> Callable[[Vhost, int], float]:
        return lambda vhost, count: ground.peer(name, *way, vhost.url, "orders", KEY, count, client.WINDOW)

    found: dict[str, tuple[int, Callable[[Vhost, int], float]]] = {}
    if (program := client.compiled(ground)) is not None:
        found["C client"] = (30_000, lambda vhost, count: client.publish(program, vhost, "orders", KEY, count))
    found["pika SelectConnection, pipelined"] = (20_000, script("publish_pika", "pipelined"))
    if is_installed("aio_pika", "uvloop"):
        found["aio-pika"] = (8_000, script("publish_aio_pika", "asyncio"))
        found["aio-pika on uvloop"] = (8_000, script("publish_aio_pika", "uvloop"))
    if is_installed("faststream", "uvloop"):
        found["FastStream on uvloop"] = (8_000, script("publish_faststream"))
    found["pika, each confirm awaited"] = (1_500, script("publish_pika", "blocking"))
    found["pika, a connection per message"] = (150, script("publish_pika", "connection"))
    return {name: (count // 4 if quick else count, run) for name, (count, run) in found.items()}


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure beside each peer on a classic queue, and beside the C client on a quorum queue."""
    others = peers(ground, quick)
    yield from _measure(ground, runs, "classic", others, quick)
    if not quick:
        yield from _measure(
            ground, runs, "quorum", {name: one for name, one in others.items() if name == "C client"}, quick
        )


def _measure(
    ground: Ground,
    runs: int,
    queue_type: str,
    others: dict[str, tuple[int, Callable[[Vhost, int], float]]],
    quick: bool,
) -> Iterator[Figure]:
    mine: list[float] = []
    theirs: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        mine.append(ours(ground, queue_type, 5_000 if quick else 20_000))
        for name, (count, run) in others.items():
            with ground.vhost() as vhost:
                declare(vhost, queue_type)
                theirs[name].append(count / run(vhost, count))
                check(vhost, count)
    for name, rates in theirs.items():
        goal = "ratio >= 0.8" if name == "C client" else None
        yield Figure.beside(f"confirmed publish, {queue_type} queue", "msg/s", mine, rates, name, goal)
