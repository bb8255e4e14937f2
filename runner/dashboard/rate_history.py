"""The rate of each slot in the last minutes, for small charts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

#: The number of intervals, and the seconds of each. Together, they cover ten minutes.
INTERVALS, SECONDS = 60, 10
#: The rate in messages per second that a chart shows at its full height, unless a rate is higher.
LEAST_TOP = 1.0


class RateHistory:
    """The average rate of each slot in each interval while a page was open. The oldest intervals are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The interval that is not over yet, and its samples.
        self._interval = 0
        self._samples: dict[str, list[float]] = {}
        #: The averages by slot and interval. Intervals without a page are missing.
        self._averages: dict[str, dict[int, float]] = {}

    def add(self, time: float, slots: Mapping[str, Mapping[str, Any]]) -> bool:
        """Add the rates of a frame at ``time`` in seconds. Return True if an interval is over."""
        interval = int(time // SECONDS)
        with self._lock:
            is_over = interval != self._interval
            if is_over:
                self._finish(interval, slots)
            for name, slot in slots.items():
                self._samples.setdefault(name, []).append(slot.get("messages_per_second") or 0.0)
        return is_over

    def points(self, slot: str, width: int, height: int) -> list[list[tuple[float, float]]]:
        """Return the chart of a slot as lines in a box of ``width`` by ``height``, which ends at the current interval.

        Each line is a list of points. Between two lines, no page was open.
        """
        with self._lock:
            values = dict(self._averages.get(slot, {}))
            if samples := self._samples.get(slot):
                values[self._interval] = sum(samples) / len(samples)
            last = self._interval
        top = max([LEAST_TOP, *values.values()])
        lines: list[list[tuple[float, float]]] = []
        for interval in range(last - INTERVALS + 1, last + 1):
            if interval not in values:
                continue
            if interval - 1 not in values:
                lines.append([])
            across = (interval - last + INTERVALS - 1) / (INTERVALS - 1)
            lines[-1].append((round(width * across, 1), round(height - 1 - (height - 3) * values[interval] / top, 1)))
        return lines

    def _finish(self, interval: int, slots: Mapping[str, Any]) -> None:
        for name, samples in self._samples.items():
            self._averages.setdefault(name, {})[self._interval] = sum(samples) / len(samples)
        oldest = interval - INTERVALS
        kept = {name: self._averages.get(name, {}) for name in slots}
        self._averages = {
            name: {at: value for at, value in found.items() if at > oldest} for name, found in kept.items()
        }
        self._interval, self._samples = interval, {}
