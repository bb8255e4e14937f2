"""Processes of this machine, as Linux describes them in /proc/PID/stat and /proc/PID/cmdline (proc(5))."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import NamedTuple

#: Seconds between two looks at a state.
_INTERVAL = 0.005


class ProcStat(NamedTuple):
    """What the kernel says of one process; times in clock ticks."""

    #: A letter, such as R for running, T for stopped, and Z or X for one that has ended.
    state: str
    parent: int
    #: User and system time of its own.
    cpu: int
    #: From the start of the machine to its own.
    start: int
    #: Resident memory.
    pages: int

    @property
    def has_ended(self) -> bool:
        """True if it only waits for its parent."""
        return self.state in ("Z", "X")


def read_stat(pid: int) -> ProcStat | None:
    """Return the state of a process, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the last parenthesis, because the name of a process may hold any character.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return ProcStat(
        fields[0].decode(), int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21])
    )


def command_line(pid: int) -> list[bytes]:
    """Return the words of a process's command; none if there is no such process, or it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


@dataclass(frozen=True)
class Identity:
    """One process, known by its pid and its start, because another process may have the same pid later."""

    pid: int
    #: Clock ticks from the start of the machine to its own (proc(5)).
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None where there is none, or it has ended."""
        stat = read_stat(pid)
        return None if stat is None or stat.has_ended else cls(pid, stat.start)

    @property
    def state(self) -> str:
        """Its state in the letters of proc(5), such as ``T`` for stopped; empty where it has ended."""
        stat = read_stat(self.pid)
        return "" if stat is None or stat.has_ended or stat.start != self.start else stat.state

    def send(self, number: int) -> None:
        """Send it a signal, or 0 to know whether one may.

        Raises ProcessLookupError where it has ended, and PermissionError.
        """
        process = os.pidfd_open(self.pid)
        try:
            # Asked for only now, because from here on the signal can reach nobody else (pidfd_open(2)).
            if not self.state:
                raise ProcessLookupError
            signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)

    def wait_stopped(self, seconds: float) -> None:
        """Wait until it is stopped or has ended, at most so long: a busy machine comes to it a little later."""
        deadline = time.monotonic() + seconds
        while self.state not in ("T", "t", "") and time.monotonic() < deadline:
            time.sleep(_INTERVAL)
