"""The throughput of 1, 2, 4 and 8 workers on one queue, and their shares of the messages.

Every worker waits in its handler with its first message until all workers run. Workers, broker and this program share
the machine's cores. More workers than cores cannot handle more messages, but should not handle fewer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from bench.consume import working
from bench.figure import Figure
from bench.ground import Ground, say
from bench.progress import rate, watch

NAME = "workers"
ABOUT = "1, 2, 4 and 8 workers on one queue: total throughput, and the smallest share beside the largest"

PLUGIN = """
import time
from pathlib import Path

from bench.peers.work import outcome
from runner import Event, Message, hookimpl

handled = 0


@hookimpl
def handle(message: Message) -> Event:
    global handled
    if not handled:
        while not Path("go").exists():
            time.sleep(0.005)
    handled += 1
    return Event("order.done", outcome(message.json()))


@hookimpl
def stop() -> None:
    print(f"handled {handled} messages")
"""


def share(ground: Ground, instances: int, count: int) -> tuple[float, float]:
    """Measure messages a second of all workers, and the smallest share divided by the largest."""
    with working(ground, "quorum", count, {"instances": instances}, PLUGIN) as product:
        product.wait({"services": {"jobs": {"instances": instances}}})
        (product.folder / "go").touch()
        samples = watch(product.vhost, "done", count, 90)
        # The hook ``stop`` prints the number after the last message.
        product.stop()
        shares = [int(one) for one in re.findall(r"handled (\d+) messages", product.runner.output)]
    if len(shares) != instances or sum(shares) != count:
        raise RuntimeError(f"shares {shares} of {count} messages; expected the shares of {instances} workers")
    return rate(samples, 0.05, 0.95), min(shares) / max(shares)


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure totals beside that of one worker, and shares."""
    say(f"    {os.cpu_count()} cores for the workers, the broker and this program")
    rates: dict[int, list[float]] = {}
    shares: dict[int, list[float]] = {}
    counts = (1, 4) if quick else (1, 2, 4, 8)
    for _ in range(runs):
        for instances in counts:
            total, least = share(ground, instances, 4_000 if quick else 8_000)
            rates.setdefault(instances, []).append(total)
            shares.setdefault(instances, []).append(least)
    for instances in counts[1:]:
        yield Figure.beside(
            f"{instances} workers on one queue", "msg/s", rates[instances], rates[1], "one worker", "ratio >= 1"
        )
        yield Figure.alone(f"{instances} workers, smallest / largest share", "", shares[instances])
