"""Periodic samples of the CPU time, memory and message rates of processes, including their descendants."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.ipc.shared_memory import WorkerCounters
from runner.proc import read_stat

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: The shortest interval over which a rate is computed, in seconds.
SHORTEST = 1.0


def resident(pid: int) -> int:
    """Return the resident memory of a process and its descendants in bytes, or 0 if the process has exited.

    Shared memory is counted once for each process that shares it.
    """
    return _PAGE * sum(stat.pages for one in family(pid) if (stat := read_stat(one)) is not None)


def family(pid: int) -> Iterator[int]:
    """Yield the pids of a process and its descendants. For example, a broker is a descendant of its start script."""
    waiting, seen = [pid], set()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            yield one
            waiting += _children(one)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        # Each thread has its own list of children (proc(5)).
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # the process has just exited, or the kernel has no lists of children
    return found


def kills() -> int:
    """Return the number of OOM kills since the machine started (``oom_kill`` in /proc/vmstat, proc(5))."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


@dataclass(frozen=True)
class Usage:
    """The CPU usage, memory and message rate of one process, including its descendants."""

    #: The CPU usage in percent of one core.
    cpu: float
    #: The resident memory in bytes.
    memory: int
    #: The handled messages per second, or the published events per second for a process that handles no messages.
    rate: float
    counts: WorkerCounters


@dataclass(frozen=True)
class _Sample:
    time: float
    cpu: float
    memory: int
    counts: WorkerCounters


class Sampler:
    """The latest samples of each process, from which rates are computed."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[_Sample]] = {}

    def sample(self, processes: Mapping[int, WorkerCounters], now: float) -> None:
        """Take a sample of the given processes, and forget all other processes."""
        self._samples = {pid: self._samples.get(pid, deque(maxlen=3)) for pid in processes}
        for pid, counts in processes.items():
            if (sample := _sample(pid, counts, now)) is not None:
                self._samples[pid].append(sample)

    def usage(self, pid: int, counts: WorkerCounters, started_at: float, now: float) -> Usage | None:
        """Return the current usage of a process, or None if the process has exited."""
        sample = _sample(pid, counts, now)
        if sample is None:
            return None
        older = [one for one in self._samples.get(pid, ()) if now - one.time >= SHORTEST]
        before = older[-1] if older else _Sample(started_at, 0.0, 0, WorkerCounters())
        seconds = max(now - before.time, 0.01)
        did = counts.handled - before.counts.handled or counts.published - before.counts.published
        # The CPU time of exited descendants is not included, so the total can decrease.
        return Usage(100 * max(0.0, sample.cpu - before.cpu) / seconds, sample.memory, did / seconds, counts)


def _sample(pid: int, counts: WorkerCounters, now: float) -> _Sample | None:
    ticks = pages = 0
    for one in family(pid):
        stat = read_stat(one)
        if stat is not None:
            ticks += stat.cpu
            pages += stat.pages
        elif one == pid:
            return None
    return _Sample(now, ticks / _TICK, pages * _PAGE, counts)
