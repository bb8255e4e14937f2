"""A small process that stops the supervisor's descendants if the supervisor itself is killed.

The guardian reads ``+PGID`` and ``-PGID`` lines. End-of-file means that the supervisor has exited or was killed. In
that case the guardian sends SIGTERM, followed by SIGKILL a little later, to:

- the processes of these groups and their descendants
- all processes with the supervisor's mark in their environment

The guardian imports only the standard library, so that it is small and starts fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

#: Seconds between SIGTERM and SIGKILL. A worker exits by itself within about the same time.
GRACE = 1.5
#: Seconds for which processes are killed until none is left. Killed processes may have forked others.
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
    """Yield all processes in /proc."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := process(int(name))) is not None:
            yield found


def process(pid: int) -> FoundProcess | None:
    """Return a process, or None if it no longer exists."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of a process, in parentheses, may contain any character.
            state, parent, group, session, *_ = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return FoundProcess(pid, state.decode(), int(parent), int(group), int(session))


def variable(pid: int, name: str) -> str | None:
    """Return an environment variable of a process at its start, or None if it is not set or not readable."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((one[len(prefix) :].decode("utf-8", "replace") for one in entries if one.startswith(prefix)), None)


def main() -> None:
    """Read the groups until end-of-file on standard input, and stop the groups."""
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
    """Terminate all processes, and kill them until none is left.

    Found processes are remembered, because a process can no longer be found after its parent has exited.
    """
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
