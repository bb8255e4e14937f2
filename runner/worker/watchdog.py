"""The worker's watchdog pings, which the I/O loop sends while every part of the worker makes progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from runner.ipc.lifeline import Lifeline

#: The longest and the shortest time between checks, in seconds.
LONGEST_INTERVAL, SHORTEST_INTERVAL = 10.0, 0.1

#: A function that takes the monotonic time and returns a problem if a part makes no progress, else None.
Check = Callable[[float], str | None]


class WatchdogPings:
    """A timer that checks all parts and sends ``WATCHDOG=1``, or ``WATCHDOG=trigger`` if a part is stuck."""

    def __init__(
        self,
        lifeline: Lifeline,
        call_later: Callable[[float, Callable[[], None]], None],
        checks: Sequence[Check],
        shortest: float,
        log: logging.Logger,
    ) -> None:
        """``shortest`` is the shortest time limit of a check, in seconds, or 0 if no check has a limit."""
        self._lifeline, self._call_later, self._checks, self._log = lifeline, call_later, checks, log
        times = [one for one in (lifeline.watchdog, shortest) if one]
        # Check three times within each timeout, so that one late ping does not kill a healthy worker.
        self._interval = max(SHORTEST_INTERVAL, min(LONGEST_INTERVAL, min(times) / 3)) if times else 0.0

    def start(self) -> None:
        """Start the pings."""
        if self._interval:
            self._call_later(0.0, self._ping)

    def _ping(self) -> None:
        now = time.monotonic()
        problem = next((found for check in self._checks if (found := check(now)) is not None), None)
        if problem is None:
            self._lifeline.send("WATCHDOG=1")
        else:
            self.fail(problem)
        self._call_later(self._interval, self._ping)

    def fail(self, problem: str) -> None:
        """Make the supervisor kill this process immediately and blame the messages that are being handled."""
        self._log.error("%s", problem)
        self._lifeline.send(f"STATUS={problem}", "WATCHDOG=trigger")
