"""The state of processes, as read from /proc/PID/stat and /proc/PID/cmdline (proc(5))."""

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

    #: A character: for example, R for running, T for stopped, and Z or X for a process that has exited.
    state: str
    parent: int
    #: The user and system time of the process, without its child processes.
    cpu: int
    #: The time between the start of the machine and the start of the process.
    start: int
    #: The resident memory in pages.
    pages: int

    @property
    def has_ended(self) -> bool:
        """True if the process has exited but has not been reaped."""
        return self.state in ("Z", "X")


def read_stat(pid: int) -> ProcStat | None:
    """Return the kernel's statistics about a process, or None if no process has this pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The process name, in parentheses, may itself contain spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return ProcStat(
        fields[0].decode(), int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21])
    )


def command_line(pid: int) -> list[bytes]:
    """Return the command line of a process, or an empty list if no process has this pid."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


@dataclass(frozen=True)
class Identity:
    """A process, identified by its pid and start time, because a later process can get the same pid."""

    pid: int
    #: Clock ticks between the start of the machine and the start of the process (proc(5)).
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the running process with this pid, or None if no running process has this pid."""
        stat = read_stat(pid)
        return None if stat is None or stat.has_ended else cls(pid, stat.start)

    @property
    def state(self) -> str:
        """The state of the process as in proc(5), such as ``T`` for stopped.

        The state is empty after the process has exited.
        """
        stat = read_stat(self.pid)
        return "" if stat is None or stat.has_ended or stat.start != self.start else stat.state

    def send(self, number: int) -> None:
        """Send a signal to the process. Signal 0 only checks the permission to send signals.

        Raises ProcessLookupError if the process has exited, and PermissionError if the signal is not permitted.
        """
        process = os.pidfd_open(self.pid)
        try:
            # The state is checked after pidfd_open(2), because the descriptor can no longer refer to another process.
            if not self.state:
                raise ProcessLookupError
            signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)

    def wait_stopped(self, seconds: float) -> None:
        """Wait at most ``seconds`` until the process is stopped or has exited.

        On a busy machine, SIGSTOP can take effect late.
        """
        deadline = time.monotonic() + seconds
        while self.state not in ("T", "t", "") and time.monotonic() < deadline:
            time.sleep(_INTERVAL)
