"""The rate at which a worker turns the messages of one queue into messages of another queue, seen from outside."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pika

from tests.rabbit import Vhost

#: Seconds on the clock ``time.monotonic``, and the number of messages at that time.
Sample = tuple[float, int]
#: Seconds between two samples. Each costs the broker about a quarter of a millisecond.
INTERVAL = 0.025


@contextlib.contextmanager
def counting(vhost: Vhost) -> Iterator[Callable[[str], int]]:
    """Yield a function that counts the ready messages of a queue."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(vhost.url))) as connection:
        channel: Any = connection.channel()
        yield lambda queue: int(channel.queue_declare(queue, passive=True).method.message_count)


def watch(
    vhost: Vhost,
    queue: str,
    total: int,
    timeout: float,
    also: Callable[[], object] = lambda: None,
    interval: float = INTERVAL,
) -> list[Sample]:
    """Sample a queue every ``interval`` seconds until it contains ``total`` messages, and call ``also`` each time.

    Raises RuntimeError after ``timeout`` seconds.
    """
    samples: list[Sample] = []
    with counting(vhost) as count:
        deadline = time.monotonic() + timeout
        while True:
            also()
            samples.append((time.monotonic(), count(queue)))
            if samples[-1][1] >= total:
                return samples
            if samples[-1][0] > deadline:
                raise RuntimeError(f"{samples[-1][1]} of {total} messages in {queue} after {timeout:g} s")
            time.sleep(interval)


def rate(samples: Sequence[Sample], begin: float = 0.1, end: float = 1.0) -> float:
    """Return the messages a second between two shares of the last sample's count."""
    total = samples[-1][1]
    first, last = begin * total, end * total
    return (last - first) / (_reached(samples, last) - _reached(samples, first))


def _reached(samples: Sequence[Sample], count: float) -> float:
    """Return when ``count`` messages had arrived, interpolated linearly between two samples."""
    for (before, less), (after, more) in pairwise(samples):
        if more >= count > less:
            return before + (after - before) * (count - less) / (more - less)
    return samples[0][0]


class CpuMeter:
    """Samples of the CPU time of a process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: list[tuple[float, float]] = []

    def look(self) -> None:
        """Record the CPU time used so far."""
        self._samples.append((time.monotonic(), cpu_seconds([self._pid])))

    def each(self, samples: Sequence[Sample], begin: float = 0.1) -> float:
        """Return microseconds for each message, from a share of the last sample's count on."""
        total = samples[-1][1]
        since = _reached(samples, begin * total)
        before = max((at, taken) for at, taken in self._samples if at <= since or at == self._samples[0][0])
        done = total - next(count for at, count in reversed(samples) if at <= before[0] or at == samples[0][0])
        return 1e6 * (self._samples[-1][1] - before[1]) / done


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the seconds of CPU that processes have used (proc(5), ``stat``: utime and stime)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
