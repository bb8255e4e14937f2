"""A window over the samples of the last seconds, from which rates are calculated."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

#: Seconds over which rates and times are averaged.
WINDOW = 5.0
_Sample = TypeVar("_Sample")


class SampleWindow(Generic[_Sample]):
    """The samples of the last ``WINDOW`` seconds. After a longer time without a sample, a new window begins."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, _Sample]] = deque()

    def add(self, time: float, sample: _Sample) -> tuple[float, _Sample]:
        """Add a sample. Return the oldest sample in the window, and the seconds since that sample.

        ``time`` is in seconds of a monotonic clock, because the wall clock can be set back.
        """
        samples = self._samples
        if samples and time - samples[-1][0] > WINDOW:
            samples.clear()
        samples.append((time, sample))
        while len(samples) > 2 and samples[1][0] <= time - WINDOW:
            samples.popleft()
        began, oldest = samples[0]
        return time - began, oldest

    def clear(self) -> None:
        """Remove all samples."""
        self._samples.clear()
