"""A process of this machine, known by its pid and by when it started: its pid alone may be another one's by now."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

#: Where the fields are that follow the name in /proc/pid/stat (proc(5)).
_STATE, _START = 0, 19
_DEAD = ("Z", "X")
#: Seconds between two looks at a state.
_INTERVAL = 0.005


@dataclass(frozen=True)
class Identity:
    """One process."""

    pid: int
    #: Clock ticks from the start of the machine to its own (proc(5)).
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None where there is none, or it has ended."""
        fields = _fields(pid)
        return None if not fields or fields[_STATE] in _DEAD else cls(pid, int(fields[_START]))

    @property
    def state(self) -> str:
        """Its state in the letters of proc(5), such as ``T`` for stopped; empty where it has ended."""
        fields = _fields(self.pid)
        if not fields or fields[_STATE] in _DEAD or int(fields[_START]) != self.start:
            return ""
        return fields[_STATE]

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


def _fields(pid: int) -> list[str]:
    try:
        # The name in parentheses may hold any character.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []
