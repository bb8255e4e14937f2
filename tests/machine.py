"""The present speed of this machine, so that other processes do not make tests of time limits fail."""

from __future__ import annotations

import os
import sys

#: Seconds of computing for one measurement: several time slices of the scheduler.
_SECONDS = 0.1
_BUSY = "import time\nwhile time.process_time() < {seconds}:\n    pass"
#: Factor for the uneven distribution of the cores by the scheduler.
_UNFAIR = 1.5


def slowdown() -> float:
    """Return how many times longer a computation takes now than on idle cores, at least 1."""
    began = os.times().elapsed
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-ISc", _BUSY.format(seconds=_SECONDS)])
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return max(1.0, (os.times().elapsed - began) / (usage.ru_utime + usage.ru_stime))


def in_time(seconds: float) -> float:
    """Return the time limit, on this machine as it is now, for work of ``seconds`` on an idle machine.

    The work may be over, and so may what slowed it down. Therefore, the load of the last minute counts too.
    """
    factor = max(slowdown(), os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    return seconds if factor < _UNFAIR else seconds * factor * _UNFAIR
