"""Lines of several processes in the order of their times.

Each process writes its lines at once, but the supervisor reads one process after the other. So it may read a line
before an older line of another process. Each line therefore waits a moment for older lines.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence

from runner.supervisor.output.line import Line

#: Seconds that a line waits for older lines: more than a line needs on a busy machine, and less than a person notices.
HOLD = 0.1


class InOrder:
    """A buffer that keeps lines until they are ``hold`` seconds old, and returns them in the order of their times."""

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._lines: list[Line] = []

    def add(self, lines: Sequence[Line]) -> None:
        """Add lines; those of one process stay in their order if their times are equal."""
        self._lines += lines
        if self._hold:
            self._lines.sort(key=_time)

    def take(self, *, everything: bool = False) -> list[Line]:
        """Remove and return the lines that are old enough, or all of them."""
        now = time.time()
        # A time in the future means that the clock was set back, so waiting for it is useless.
        is_usual = bool(self._lines) and self._lines[-1].time <= now + self._hold
        end = bisect_right(self._lines, now - self._hold, key=_time) if self._hold and is_usual else len(self._lines)
        ready = self._lines if everything else self._lines[:end]
        self._lines = [] if everything else self._lines[end:]
        return ready

    @property
    def wait(self) -> float | None:
        """Return the seconds until the next line is old enough, or None if there is no line."""
        if not self._lines:
            return None
        return min(max(0.0, self._lines[0].time + self._hold - time.time()), self._hold)


def _time(line: Line) -> float:
    return line.time
