"""The time axis of a swimlane, on which long waits can be folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from runner.history.entries import duration
from runner.history.swimlane import BarKind, Swimlane

#: The shortest wait that can be folded, in milliseconds.
LEAST_FOLDED = 150
#: The width of a folded wait and of the wait that still lasts, in pixels, and the part of the axis that folds may use.
FOLD_WIDTH, FOLD_SHARE = 76.0, 0.5
#: The minimum distance of two ticks, in pixels.
TICK_DISTANCE = 88.0


@dataclass(frozen=True)
class AxisPart:
    """A part of the axis with its own scale. Times are in milliseconds, positions in pixels."""

    begin: float
    end: float
    left: float
    right: float
    is_folded: bool
    #: The length of the whole wait of which a folded part shortens the middle.
    wait: float = 0.0

    def x(self, time: float) -> float:
        """Return the position of a time."""
        length = self.end - self.begin
        return self.left if length <= 0 else self.left + (self.right - self.left) * (time - self.begin) / length


@dataclass(frozen=True)
class AxisTick:
    """A line at a time, with its label."""

    x: float
    text: str


class TimeAxis:
    """The positions of times between ``left`` and ``right``."""

    def __init__(self, swimlane: Swimlane, left: float, right: float, *, is_folded: bool) -> None:
        """``is_folded`` shortens long waits. Otherwise, the whole axis has one scale."""
        self.left, self.right = left, right
        gaps = list(_long_waits(swimlane)) if is_folded else []
        #: The end of the recorded times. Behind it, messages still wait.
        self.tail = right - FOLD_WIDTH if swimlane.is_open else right
        self.parts = _parts(swimlane.end, gaps, left, self.tail)

    def x(self, time: float | None) -> float:
        """Return the position of a time, or the right end for None, a wait that still lasts."""
        if time is None:
            return self.right
        part = next((one for one in self.parts if time <= one.end), self.parts[-1])
        return min(part.x(time), self.tail)

    @property
    def folds(self) -> list[AxisPart]:
        """The folded parts."""
        return [one for one in self.parts if one.is_folded]

    def ticks(self) -> Iterator[AxisTick]:
        """Yield the ticks of all parts that are not folded."""
        scale = max(
            ((one.end - one.begin) / (one.right - one.left) for one in self.parts if not one.is_folded), default=1
        )
        step = _nice(scale * TICK_DISTANCE)
        for part in self.parts:
            if part.is_folded:
                continue
            time = -(-part.begin // step) * step
            while time <= part.end:
                yield AxisTick(part.x(time), tick_text(round(time), step))
                time += step


def _long_waits(swimlane: Swimlane) -> Iterator[tuple[int, int]]:
    """Yield each time in which no handler ran, if it is longer than all other times together."""
    bars = [one for row in swimlane.rows for one in row.bars]
    marks = [one.at for row in swimlane.rows for one in row.marks]
    attempts = sorted((one.begin, one.end or one.begin) for one in bars if one.kind is BarKind.ATTEMPT)
    times = sorted(
        {0, swimlane.end, *marks, *(one.begin for one in bars), *(one.end for one in bars if one.end is not None)}
    )
    waits: list[tuple[int, int]] = []
    for begin, end in pairwise(times):
        if end - begin >= LEAST_FOLDED and not any(began < end and begin < ended for began, ended in attempts):
            waits.append((begin, end))
    rest = swimlane.end - sum(end - begin for begin, end in waits)
    yield from ((begin, end) for begin, end in waits if end - begin > rest)


def _parts(end: float, gaps: list[tuple[int, int]], left: float, right: float) -> list[AxisPart]:
    rest = end - sum(stop - start for start, stop in gaps)
    # A part of each wait keeps the usual scale, so that the bars visibly continue beside the fold.
    margin = max(1.0, rest * 0.06)
    folds = [(start + margin, stop - margin, stop - start) for start, stop in gaps if stop - start > 4 * margin]
    width = min(FOLD_WIDTH, FOLD_SHARE * (right - left) / len(folds)) if folds else 0.0
    linear = max(1.0, end - sum(stop - start for start, stop, _ in folds))
    scale = (right - left - width * len(folds)) / linear
    parts, time, x = list[AxisPart](), 0.0, left
    for start, stop, wait in folds:
        parts.append(AxisPart(time, start, x, x + (start - time) * scale, False))
        x = parts[-1].right
        parts.append(AxisPart(start, stop, x, x + width, True, wait))
        time, x = stop, x + width
    return [*parts, AxisPart(time, max(end, time + 1.0), x, right, False)]


def _nice(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, 50 … that is not below ``least``, in milliseconds.

    From one minute on, the numbers are those of clocks.
    """
    for step in (
        60_000,
        120_000,
        300_000,
        600_000,
        1_800_000,
        3_600_000,
        10_800_000,
        21_600_000,
        43_200_000,
        86_400_000,
    ):
        if 50_000 < least <= step:
            return step
    if least > 86_400_000:
        return -(-least // 86_400_000) * 86_400_000
    power = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10


def tick_text(time: int, step: float) -> str:
    """Return the label of a time, with as many digits as the distance of the ticks needs."""
    if time == 0:
        return "0"
    if time < 1000:
        return f"{time} ms"
    if time < 120_000 and step < 60_000:
        digits = 3 if step < 10 else 2 if step < 100 else 1 if step < 1000 else 0
        return f"{time / 1000:.{digits}f} s"
    seconds = time // 1000
    if step >= 86_400_000:
        return f"{seconds // 86_400} d"
    if step >= 60_000:
        return f"{seconds // 3600} h {seconds // 60 % 60} min" if seconds >= 3600 else f"{seconds // 60} min"
    hours = f"{seconds // 3600}:{seconds // 60 % 60:02}" if seconds >= 3600 else f"{seconds // 60}"
    return f"{hours}:{seconds % 60:02}"


def fold_text(part: AxisPart) -> str:
    """Return the label of a folded wait."""
    return f"{duration(round(part.wait))} folded"
