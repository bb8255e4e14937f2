"""The positions of the bars, marks and labels in one row of a swimlane."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.dashboard.time_axis import TimeAxis
from runner.history.entries import duration
from runner.history.swimlane import BarKind, SwimlaneRow, TimeBar, TimeMark
from runner.topology.picture.text_width import width_of

#: The heights of a row with one track, of a further track, of an attempt, and of a wait before an attempt.
ROW, TRACK, BAR, WAIT = 58.0, 30.0, 24.0, 16.0
#: The minimum width of a bar, the radius of a mark, and the font size of labels.
LEAST, RADIUS, SMALL = 3.0, 5.0, 11.0
#: The size of an icon in a bar, and the space beside a text.
ICON, SPACE = 12.0, 7.0
#: The icon of each outcome of an attempt, and of each mark.
ICONS = {
    "handled": "run",
    "duplicate": "stop",
    "retried": "fatal",
    "dead_lettered": "fatal",
    "replayed": "restart",
    "discarded": "flag",
}
#: The outcome of an attempt in a label beside a short bar.
_WORDS = {"handled": "handled", "duplicate": "duplicate", "retried": "failed", "dead_lettered": "failed"}


@dataclass(frozen=True)
class DrawnText:
    """A text with its position. ``anchor`` is ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = ""


@dataclass
class DrawnBar:
    """A rectangle or a circle with its texts. ``step`` is the number of the entry that it selects."""

    id: str
    #: ``queued``, ``retry``, ``dead``, a mark's kind, or the outcome of an attempt.
    kind: str
    x: float
    y: float
    width: float
    height: float
    step: int | None
    label: str
    texts: list[DrawnText] = field(default_factory=list)
    #: The name of the mark in the bar, with its position, or None.
    mark: tuple[str, float, float] | None = None
    is_open: bool = False
    row: int = 0


def middle(top: float, track: int) -> float:
    """Return the position of the middle of a track."""
    return top + ROW / 2 + TRACK * track


class SwimlaneRowParts:
    """The parts of one row, whose labels touch no other part."""

    def __init__(self, row: SwimlaneRow, number: int, top: float, axis: TimeAxis) -> None:
        self._row, self._number, self._top, self._axis = row, number, top, axis
        #: The used stretches of each track.
        self._used: list[tuple[int, float, float]] = []

    def all(self) -> list[DrawnBar]:
        """Return all parts. Marks are last, because they lie on bars."""
        bars = [self._bar(number, one) for number, one in enumerate(self._row.bars)]
        marks = [self._mark(number, one) for number, one in enumerate(self._row.marks)]
        self._used += [(one.track, part.x, part.x + part.width) for one, part in zip(self._row.bars, bars, strict=True)]
        self._used += [
            (one.track, part.x, part.x + part.width) for one, part in zip(self._row.marks, marks, strict=True)
        ]
        for mark, part in zip(self._row.marks, marks, strict=True):
            self._label_beside(part, mark.track, [mark.text])
        for bar, part in zip(self._row.bars, bars, strict=True):
            if bar.kind is BarKind.ATTEMPT and not part.texts:
                time = duration(bar.length)
                self._label_beside(part, bar.track, [f"{bar.text}, {time}", f"{_WORDS[bar.outcome]}, {time}", time])
        return [*bars, *marks]

    def _bar(self, number: int, one: TimeBar) -> DrawnBar:
        x, end = self._axis.x(one.begin), self._axis.x(one.end)
        height = WAIT if one.kind in (BarKind.RETRY, BarKind.DEAD) else BAR
        y = middle(self._top, one.track) - height / 2
        width = max(LEAST, end - x)
        # A short bar at the right end must not leave the drawing.
        x = min(x, self._axis.right - width)
        part = DrawnBar(
            f"bar-{self._number}-{number}", one.outcome or one.kind.value, x, y, width, height, one.step, one.sentence,
            is_open=one.end is None, row=self._number,
        )  # fmt: skip
        self._label_inside(part, one)
        return part

    def _mark(self, number: int, one: TimeMark) -> DrawnBar:
        x, y = self._axis.x(one.at), middle(self._top, one.track)
        part = DrawnBar(
            f"mark-{self._number}-{number}", one.kind, x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS, one.step,
            one.text, row=self._number,
        )  # fmt: skip
        if one.kind in ICONS:
            part.mark = (ICONS[one.kind], x - ICON / 2, y - ICON / 2)
        return part

    def _label_inside(self, part: DrawnBar, one: TimeBar) -> None:
        """Add the longest label that fits into a bar."""
        base = part.y + part.height / 2 + 4
        if one.kind is not BarKind.ATTEMPT:
            for text in (one.text, one.text.partition(",")[0]):
                if width_of(text, SMALL) + 2 * SPACE <= part.width:
                    part.texts.append(DrawnText(part.x + part.width / 2, base, text, "middle"))
                    return
            return
        if part.width < ICON + 6:
            return
        part.mark = (
            ICONS[one.outcome],
            part.x + min(SPACE, (part.width - ICON) / 2),
            part.y + (part.height - ICON) / 2,
        )
        left, right = part.x + SPACE + 5 + ICON, part.x + part.width - SPACE
        time = duration(one.length)
        name = one.text.partition(",")[0]
        for text, end in ((one.text, time), (name, time), (name, ""), ("", time)):
            space = SPACE if text and end else 0
            if width_of(text, SMALL) + space + width_of(end, SMALL) <= right - left:
                part.texts += [DrawnText(left, base, text)] if text else []
                part.texts += [DrawnText(right, base, end, "end", "soft")] if end else []
                return

    def _label_beside(self, part: DrawnBar, track: int, texts: list[str]) -> None:
        """Add the longest label that is free beside a part, first on the right."""
        base = middle(self._top, track) + 4
        for text in texts:
            width = width_of(text, SMALL)
            for x, anchor, begin in (
                (part.x + part.width + SPACE, "start", part.x + part.width + SPACE),
                (part.x - SPACE, "end", part.x - SPACE - width),
            ):
                if (
                    begin >= self._axis.left + SPACE
                    and begin + width <= self._axis.right + 8
                    and self._is_free(track, begin, begin + width)
                ):
                    self._used.append((track, begin, begin + width))
                    part.texts.append(DrawnText(x, base, text, anchor, "beside"))
                    return

    def _is_free(self, track: int, begin: float, end: float) -> bool:
        return all(
            one != track or end + SPACE / 2 <= left or begin >= right + SPACE / 2 for one, left, right in self._used
        )
