"""The processes on this machine, according to /proc/PID/stat and /proc/PID/cmdline (proc(5))."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import NamedTuple

#: Seconds between checks of a process's state.
_INTERVAL = 0.005


class ProcStat(NamedTuple):
    """The kernel's statistics about one process. Times are in clock ticks."""

    #: A character, such as R for running, T for stopped, and Z or X for a process that has exited.
    state: str
    parent: int
    #: The user and system time of the process itself.
    cpu: int
    #: The time between the start of the machine and the start of the process.
    start: int
    #: The pages of resident memory.
    pages: int

    @property
    def has_ended(self) -> bool:
        """True if the process has exited and only waits to be reaped."""
        return self.state in ("Z", "X")


def read_stat(pid: int) -> ProcStat | None:
    """Return the state of a process, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of a process, in parentheses, may contain any character.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return ProcStat(
        fields[0].decode(), int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21])
    )


def command_line(pid: int) -> list[bytes]:
    """Return the arguments of a process, or an empty list if the process does not exist or has exited."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


@dataclass(frozen=True)
class Identity:
    """One process, identified by its pid and its start, because another process may get the same pid later."""

    pid: int
    #: Clock ticks between the start of the machine and the start of the process (proc(5)).
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the process that has this pid now, or None if there is none, or if it has exited."""
        stat = read_stat(pid)
        return None if stat is None or stat.has_ended else cls(pid, stat.start)

    @property
    def state(self) -> str:
        """The state of the process as in proc(5), such as ``T`` for stopped. Empty if the process has exited."""
        stat = read_stat(self.pid)
        return "" if stat is None or stat.has_ended or stat.start != self.start else stat.state

    def send(self, number: int) -> None:
        """Send a signal to the process, or 0 to check that this is permitted.

        Raises ProcessLookupError if the process has exited, and PermissionError.
        """
        process = os.pidfd_open(self.pid)
        try:
            # This check follows pidfd_open(2), because from then on the signal cannot reach another process.
            if not self.state:
                raise ProcessLookupError
            signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)

    def wait_stopped(self, seconds: float) -> None:
        """Wait at most ``seconds`` until the process is stopped or has exited. A busy machine may stop it late."""
        deadline = time.monotonic() + seconds
        while self.state not in ("T", "t", "") and time.monotonic() < deadline:
            time.sleep(_INTERVAL)
