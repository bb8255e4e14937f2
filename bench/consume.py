"""Consume, publish one confirmed event, acknowledge: messages a second of one worker that finds a backlog.

The backlog is filled before the worker starts. The rate is that of the output queue between 10 and 100 % of all
messages, so that it excludes the start. Then the product stops, and its input queue must be empty, because every
message was acknowledged. The service has the default settings: one message at a time, and the default prefetch. The
queues are those that ``topology.yaml`` creates by default.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pika

from bench import client
from bench.figure import Figure
from bench.ground import Ground, Product, is_installed
from bench.progress import CpuMeter, counting, rate, watch
from tests.rabbit import Vhost

NAME = "consume"
ABOUT = "consume, publish, acknowledge with one worker, beside FastStream, aio-pika, pika and kombu"

PLUGIN = """
from bench.peers.work import outcome
from runner import Event, Message, hookimpl


@hookimpl
def handle(message: Message) -> Event:
    return Event("order.done", outcome(message.json()))
"""
#: For each peer: messages (enough for about two seconds), module, arguments before the address and exchange, and the
#: prefetch with which the peer was fastest.
PEERS: dict[str, tuple[int, str, tuple[str, ...], tuple[int, ...]]] = {
    "FastStream": (5_000, "consume_faststream", (), (500,)),
    "aio-pika": (6_000, "consume_aio_pika", ("asyncio",), (100,)),
    "aio-pika on uvloop": (6_000, "consume_aio_pika", ("uvloop",), (100,)),
    "pika BlockingConnection": (1_500, "consume_pika", (), (200,)),
    "kombu": (1_500, "consume_kombu", (), (200,)),
}
#: Messages a second, and microseconds of CPU for each message.
Pace = tuple[float, float]
_NEEDS = {"consume_faststream": ("faststream", "uvloop"), "consume_aio_pika": ("aio_pika", "uvloop"),
          "consume_kombu": ("kombu",)}  # fmt: skip


def topology(queue_type: str) -> dict[str, Any]:
    """Return an exchange, a queue to consume, and a queue for the events."""
    return {
        "defaults": {"queue_type": queue_type},
        "exchanges": {"work": {"type": "topic"}},
        "queues": {"jobs": {"bind": {"work": ["order.created"]}}, "done": {"bind": {"work": ["order.done"]}}},
    }


def declare(vhost: Vhost, queue_type: str) -> None:
    """Declare the same objects for a peer."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost.url))) as connection:
        channel = connection.channel()
        channel.exchange_declare("work", "topic", durable=True)
        for queue, key in (("jobs", "order.created"), ("done", "order.done")):
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
            channel.queue_bind(queue, "work", key)


@contextlib.contextmanager
def working(
    ground: Ground, queue_type: str, count: int, service: Mapping[str, Any], plugin: str = PLUGIN
) -> Iterator[Product]:
    """Run our service ``jobs`` on a backlog of ``count`` messages that was there before the service."""
    config = {"services": {"jobs": {"consumes": ["jobs"], "publishes": {"work": ["order.done"]}, **service}}}
    with ground.vhost() as vhost:
        folder = ground.project(vhost, config, topology(queue_type), {"jobs": plugin})
        ground.command(folder, "apply")
        client.fill(ground, vhost, "work", "order.created", count)
        with ground.product(vhost, folder, wait=False) as product:
            yield product
        check(vhost, count)


def check(vhost: Vhost, count: int, most_left: int = 0) -> None:
    """Raise RuntimeError if an event is missing or more than ``most_left`` messages were not acknowledged."""
    with counting(vhost) as ready:
        left, done = ready("jobs"), ready("done")
    if left > most_left or done < count:
        raise RuntimeError(f"{left} messages left, {done} of {count} events")


def ours(ground: Ground, queue_type: str, count: int, service: Mapping[str, Any]) -> Pace:
    """Measure the product."""
    with working(ground, queue_type, count, service) as product:
        cpu = CpuMeter(product.pid("jobs.1"))
        samples = watch(product.vhost, "done", count, 90, cpu.look)
        return rate(samples), cpu.each(samples)


def peer(ground: Ground, queue_type: str, name: str, share: int = 1) -> Pace:
    """Measure a peer, with its number of messages divided by ``share``."""
    count, module, before, after = PEERS[name]
    with ground.vhost() as vhost:
        declare(vhost, queue_type)
        client.fill(ground, vhost, "work", "order.created", count // share)
        with ground.worker(module, *before, vhost.url, "work", *after) as (pid, works):
            cpu = CpuMeter(pid)

            def look() -> None:
                works()
                cpu.look()

            samples = watch(vhost, "done", count // share, 60, look)
        # A stopped peer may not have sent its last acknowledgements, at most as many as its prefetch.
        check(vhost, count // share, after[-1])
    return rate(samples), cpu.each(samples)


def available(*names: str) -> list[str]:
    """Return the peers that are installed."""
    return [name for name in names if is_installed(*_NEEDS.get(PEERS[name][1], ()))]


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure all peers on quorum queues, the default, and the two with goals on classic queues too."""
    names = available("FastStream", "aio-pika on uvloop") if quick else available(*PEERS)
    yield from _measure(ground, runs, "quorum", names, quick)
    if not quick:
        chosen = [name for name in names if name in ("FastStream", "aio-pika on uvloop")]
        yield from _measure(ground, runs, "classic", chosen, quick)


def _measure(ground: Ground, runs: int, queue_type: str, names: list[str], quick: bool) -> Iterator[Figure]:
    mine: list[Pace] = []
    theirs: dict[str, list[Pace]] = defaultdict(list)
    for _ in range(runs):
        mine.append(ours(ground, queue_type, 10_000 if quick else 30_000, {}))
        for name in names:
            theirs[name].append(peer(ground, queue_type, name, 4 if quick else 1))
    what = f"consume, publish, ack, {queue_type} queues"
    rates, costs = zip(*mine, strict=True)
    if not theirs:
        yield Figure.alone(what, "msg/s", rates)
    for name, paces in theirs.items():
        goal = "ratio >= 5" if name.startswith("FastStream") else "ratio >= 3" if name.startswith("aio-pika") else None
        yield Figure.beside(what, "msg/s", rates, [pace for pace, _ in paces], name, goal)
    for name, paces in theirs.items():
        cost = [cost for _, cost in paces]
        yield Figure.beside(
            f"the same, CPU of the worker, {queue_type}", "µs/msg", costs, cost, name, less_is_better=True
        )
