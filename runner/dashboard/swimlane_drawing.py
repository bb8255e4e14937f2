"""The positions of all parts of a swimlane. The template ``swimlane.html`` writes them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.dashboard.row_parts import ROW, SMALL, TRACK, DrawnBar, DrawnText, SwimlaneRowParts, middle
from runner.dashboard.time_axis import TimeAxis, fold_text
from runner.history.swimlane import Swimlane, SwimlaneRow
from runner.topology.picture.text_width import fitted, width_of

#: The drawing's width, the width of the column with the names, and the left and right ends of the time axis.
WIDTH, NAMES, LEFT, RIGHT = 1240.0, 180.0, 206.0, 1224.0
#: The height of the axis.
HEAD = 30.0
#: The maximum number of bars. An order with more attempts is shown as a table only.
MOST_BARS = 400
_NAME = 12.5


@dataclass(frozen=True)
class DrawnRow:
    """A row with its names. ``line`` is the position of the line above it."""

    line: float
    service: DrawnText
    queue: DrawnText
    #: The whole names, if they are cut.
    title: str


@dataclass(frozen=True)
class SwimlaneDrawing:
    """All parts of a swimlane, with positions in pixels of a drawing that is ``WIDTH`` wide."""

    height: float
    rows: Sequence[DrawnRow]
    bars: Sequence[DrawnBar]
    #: The positions of the ticks.
    ticks: Sequence[float]
    axis_texts: Sequence[DrawnText]
    #: The left end and the width of each fold.
    folds: Sequence[tuple[float, float]]
    #: The position, and the upper and lower end, of each line from an event to its copies.
    lines: Sequence[tuple[float, float, float]]
    width: float = WIDTH
    top: float = HEAD


def draw(swimlane: Swimlane, *, is_folded: bool) -> SwimlaneDrawing:
    """Return the drawing of a swimlane. ``is_folded`` shortens long waits."""
    axis = TimeAxis(swimlane, LEFT, RIGHT, is_folded=is_folded)
    tops, height = list[float](), HEAD
    for row in swimlane.rows:
        tops.append(height)
        height += ROW + TRACK * (row.tracks - 1)
    texts, ticks = _labelled(axis)
    return SwimlaneDrawing(
        height=height + 6,
        rows=[_names(row, top) for row, top in zip(swimlane.rows, tops, strict=True)],
        bars=[
            part
            for number, row in enumerate(swimlane.rows)
            for part in SwimlaneRowParts(row, number, tops[number], axis).all()
        ],
        ticks=ticks,
        axis_texts=texts,
        folds=[(one.left, one.right - one.left) for one in axis.folds]
        + [(axis.tail, axis.right - axis.tail)] * swimlane.is_open,
        lines=[
            (axis.x(one.at), min(ends), max(ends))
            for one in swimlane.lines
            for ends in [(middle(tops[one.source], 0), middle(tops[one.target], one.track))]
        ],
    )


def _names(row: SwimlaneRow, top: float) -> DrawnRow:
    below = row.queue or "started the order"
    service, queue = fitted(row.service, NAMES, _NAME, bold=True), fitted(below, NAMES, SMALL)
    title = f"{row.service} {row.queue}" if (service, queue) != (row.service, below) else ""
    y = top + ROW / 2
    return DrawnRow(top, DrawnText(16, y - 3, service), DrawnText(16, y + 13, queue), title)


def _labelled(axis: TimeAxis) -> tuple[list[DrawnText], list[float]]:
    """Return the labels of folds and ticks, and the positions of ticks. A tick whose label has no room is omitted."""
    used, texts, ticks = list[tuple[float, float]](), list[DrawnText](), list[float]()
    wanted = [((one.left + one.right) / 2, fold_text(one), "fold") for one in axis.folds]
    if axis.tail < axis.right:
        wanted.append(((axis.tail + axis.right) / 2, "until now", "fold"))
    for x, text, kind in [*wanted, *((one.x, one.text, "tick") for one in axis.ticks())]:
        half = width_of(text, SMALL) / 2 + 5
        center = min(max(x, LEFT - 5), RIGHT + 15 - half)
        if all(center + half <= begin or center - half >= end for begin, end in used):
            used.append((center - half, center + half))
            texts.append(DrawnText(round(center, 1), 19, text, "middle", kind))
            ticks += [x] if kind == "tick" else []
    return texts, ticks
