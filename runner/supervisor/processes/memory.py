"""How much memory a process takes with all that it started, and whether the kernel has killed any for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants; 0 if it is gone. Memory that they share counts for each."""
    return sum(map(_resident, family(pid)))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants: a broker's memory is that of what its start script started."""
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
        # Each thread has the children that it started (proc(5)).
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has just ended, or the kernel keeps no such lists
    return found


def kills() -> int:
    """How many processes the kernel has killed, short of memory, since it started (proc(5), vmstat)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0
