"""A small process that stops all descendants of the supervisor if the supervisor is killed.

The guardian reads ``+PGID`` and ``-PGID`` lines from the supervisor. End-of-file means that the supervisor has exited
or was killed. At end-of-file, the guardian sends SIGTERM, and SIGKILL after a short delay, to:

- the processes in the given process groups, and their descendants
- all processes whose environment contains the supervisor's mark

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

#: Seconds between SIGTERM and SIGKILL. A worker whose supervisor has exited also exits by itself within about the same
#: time.
GRACE = 1.5
#: Seconds for which the guardian kills remaining processes. A process may have forked before it was killed.
PATIENCE = 5.0


@dataclass(frozen=True)
class FoundProcess:
    """A process on this machine, as read from /proc/PID/stat (proc(5)).

    ``runner.proc`` reads the same file, but the guardian runs without the ``runner`` package.
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
    """Return the process with the given pid, or None if no such process exists."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The process name, in parentheses, may itself contain spaces and parentheses.
            state, parent, group, session, *_ = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return FoundProcess(pid, state.decode(), int(parent), int(group), int(session))


def variable(pid: int, name: str) -> str | None:
    """Return a variable from a process's initial environment, or None if the variable is unset or unreadable."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((one[len(prefix) :].decode("utf-8", "replace") for one in entries if one.startswith(prefix)), None)


def main() -> None:
    """Read process groups from standard input until end-of-file, and stop the groups."""
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
    """Terminate all processes, then kill any that remain until none is left.

    Known processes are remembered, because a descendant can no longer be found after its parent has exited.
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
