"""Axes of a chart: round marks, positions in pixels, and readable numbers and times."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Seconds between two marks.
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TIMES, _MOST_VALUES = 13, 5


@dataclass(frozen=True)
class Axis:
    """A scale from 0 to ``top`` on the pixels from ``begin`` to ``end``, with a mark at each ``step``."""

    top: float
    step: float
    begin: float
    end: float

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.begin + (self.end - self.begin) * value / self.top

    @property
    def marks(self) -> list[float]:
        """Return the values to mark."""
        return [self.step * number for number in range(math.floor(self.top / self.step + 1e-9) + 1)]


def time_axis(top: float, begin: float, end: float) -> Axis:
    """Return an axis of seconds up to the last one."""
    step = next((one for one in _TIME_STEPS if top / one < _MOST_TIMES), _TIME_STEPS[-1])
    return Axis(top, step, begin, end)


def value_axis(highest: float, begin: float, end: float) -> Axis:
    """Return an axis up to a round number that is at least ``highest``."""
    highest = max(highest, 1.0)
    size = 10.0 ** math.floor(math.log10(highest / _MOST_VALUES))
    step = max(1.0, next(size * one for one in (1, 2, 5, 10, 20) if highest / (size * one) <= _MOST_VALUES))
    return Axis(step * math.ceil(highest / step), step, begin, end)


def grouped(value: float) -> str:
    """Return a number with thousands separators."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def time_text(seconds: float) -> str:
    """Return minutes and seconds, such as 4:05; from an hour on, 1:04:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float) -> str:
    """Return a duration in words: 45 s, 4 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{hours} h" * (hours > 0), f"{minutes} min" * (minutes > 0), f"{rest} s" * (rest > 0 and not hours)]
    return " ".join(part for part in parts if part)
