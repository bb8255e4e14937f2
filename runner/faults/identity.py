"""A process of this machine, known by its pid and by when it started: its pid alone may be another one's by now."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from runner.proc import read_stat

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
