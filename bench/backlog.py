"""Memory and throughput of one worker that finds a backlog of a million messages, at the end beside the start.

There is one run only, since it takes minutes. Settings and queues are the defaults, as in ``bench.consume``.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.consume import working
from bench.figure import Figure
from bench.ground import Ground
from bench.memory import resident
from bench.progress import rate, watch

NAME = "backlog"
ABOUT = "1,000,000 messages for one worker: memory and throughput, last 10 % beside first 10 %"


def measure(ground: Ground, runs: int, quick: bool) -> Iterator[Figure]:
    """Measure whether memory and throughput stay constant."""
    count = 30_000 if quick else 1_000_000
    memory: list[float] = []
    with working(ground, "quorum", count, {}) as product:
        product.wait({"services": {"jobs": {}}})
        pid = product.pid("jobs.1")
        samples = watch(product.vhost, "done", count, 600, lambda: memory.append(resident(pid)), 0.1)
    first = [size for size, (_, done) in zip(memory, samples, strict=True) if 0 < done <= 0.1 * count]
    last = [size for size, (_, done) in zip(memory, samples, strict=True) if done >= 0.9 * count]
    words = f"backlog of {count:,}"
    yield Figure.alone(f"{words}, one worker", "msg/s", [rate(samples, 0.001, 1.0)])
    yield Figure.alone(f"{words}, memory of the worker at the end", "MB", last)
    growth = median(last) / median(first)
    yield Figure.alone(f"{words}, memory in the last 10 % / first 10 %", "", [growth], "ours <= 1.1")
    slowing = rate(samples, 0.9, 1.0) / rate(samples, 0.001, 0.1)
    yield Figure.alone(f"{words}, throughput in the last 10 % / first 10 %", "", [slowing], "ours >= 0.8")
