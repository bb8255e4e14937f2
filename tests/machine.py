"""The speed of this machine now, for tests of promises about time that other processes must not break."""

from __future__ import annotations

import os
import sys

#: Seconds of computing for a measurement: several of the scheduler's time slices.
_SECONDS = 0.1
_BUSY = "import time\nwhile time.process_time() < {seconds}:\n    pass"
#: How unevenly the scheduler may share the cores.
_UNFAIR = 1.5


def slowdown() -> float:
    """Return how many times longer a computation takes now than on idle cores; 1 at least."""
    began = os.times().elapsed
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-ISc", _BUSY.format(seconds=_SECONDS)])
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return max(1.0, (os.times().elapsed - began) / (usage.ru_utime + usage.ru_stime))


def in_time(seconds: float) -> float:
    """Return the time that what takes ``seconds`` on an otherwise idle machine may take on this one as it is now."""
    factor = slowdown()
    return seconds if factor < _UNFAIR else seconds * factor * _UNFAIR
