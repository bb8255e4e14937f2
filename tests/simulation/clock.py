"""Virtual time with its planned events."""

from __future__ import annotations

import heapq
from collections.abc import Callable

#: The virtual time 0.0 in seconds since the epoch. Any constant would do.
EPOCH = 1_700_000_000.0


class Clock:
    """A clock that jumps from event to event, so that a run takes only the time of its code."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0

    def at(self, when: float, callback: Callable[[], object]) -> None:
        """Call ``callback`` at a virtual time, or now if that time has passed."""
        self._number += 1
        heapq.heappush(self._events, (max(when, self.now), self._number, callback))

    def after(self, delay: float, callback: Callable[[], object]) -> None:
        """Call ``callback`` in ``delay`` virtual seconds."""
        self.at(self.now + delay, callback)

    def step(self) -> bool:
        """Run the next event. Return False if there is none."""
        if not self._events:
            return False
        self.now, _, callback = heapq.heappop(self._events)
        callback()
        return True
