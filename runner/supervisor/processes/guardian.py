"""A tiny process that ends the supervisor's descendants if the supervisor itself is killed.

It reads ``+PGID`` and ``-PGID`` lines. End-of-file means the supervisor is gone. What is left of these groups, what
descends from them, and whatever carries the supervisor's mark in its environment gets SIGTERM, and SIGKILL a little
later. It runs with the bare standard library, so that it is small and starts fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

#: Seconds between SIGTERM and SIGKILL; a worker ends itself in about the same time.
GRACE = 1.5
#: Seconds for killed processes to be gone; what forks all the time is killed all the time.
PATIENCE = 5.0


@dataclass(frozen=True)
class FoundProcess:
    """One process of this machine (proc(5), /proc/pid/stat).

    ``runner.proc`` reads the same line, but this program runs without the package.
    """

    pid: int
    state: str
    parent: int
    group: int
    session: int


def processes() -> Iterator[FoundProcess]:
    """All that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := process(int(name))) is not None:
            yield found


def process(pid: int) -> FoundProcess | None:
    """One of them, or None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the last parenthesis, because a process's name may hold any character.
            state, parent, group, session, *_ = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return FoundProcess(pid, state.decode(), int(parent), int(group), int(session))


def variable(pid: int, name: str) -> str | None:
    """What a process's environment said when it began, where this may be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((one[len(prefix) :].decode("utf-8", "replace") for one in entries if one.startswith(prefix)), None)


def main() -> None:
    """Guard until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    name, mark = sys.argv[1:3]
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    _end(groups, name, mark)


def _end(groups: set[int], name: str, mark: str) -> None:
    """Ask all, then kill until nothing is left; what was seen once is remembered, should its parent end first."""
    known: set[int] = set()
    left = _left(groups, known, name, mark)
    for number in (signal.SIGTERM, signal.SIGCONT):
        _signal(left, number)
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = _left(groups, known, name, mark)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
        left = _left(groups, known, name, mark)


def _left(groups: set[int], known: set[int], name: str, mark: str) -> set[int]:
    everyone = [one for one in processes() if one.state not in "ZX" and one.pid != os.getpid()]
    ours = {one.pid for one in everyone if one.group in groups or one.pid in known}
    ours |= {one.pid for one in everyone if (variable(one.pid, name) or "").startswith(mark)}
    grew = True
    while grew:
        more = {one.pid for one in everyone if one.parent in ours} - ours
        ours |= more
        grew = bool(more)
    known |= ours
    return ours


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


if __name__ == "__main__":
    main()
