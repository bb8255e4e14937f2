"""The chart of the benchmarks in SVG: a bar and a goal for each ratio, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.figure import Figure, number

WIDTH = 1200
_LEFT, _RIGHT, _TOP, _ROW = 560, 1110, 96, 24
_MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_STYLE = """
svg { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; --ink: #1f2328; --dim: #59636e; --grid: #dfe4e9;
  --paper: #fff; --bar: #0b62c4; --missed: #c4460b; }
@media (prefers-color-scheme: dark) { svg { --ink: #f0f3f6; --dim: #a3acb6; --grid: #2c333b; --paper: #0d1117;
  --bar: #58a6ff; --missed: #ffa657; } }
text { fill: var(--ink); } .dim { fill: var(--dim); } .title { font-size: 19px; font-weight: 600; }
.grid { stroke: var(--grid); } .one { stroke: var(--dim); } .end { text-anchor: end; } .middle { text-anchor: middle; }
.bar { fill: var(--bar); opacity: .8; } .missed { fill: var(--missed); }
.goal { stroke: var(--ink); stroke-width: 2.5; }
"""


def chart(figures: Sequence[Figure], title: str, subtitle: str) -> str:
    """Draw the figures that have a ratio, in light or dark colours as the reader's system asks."""
    rows = [(figure, figure.ratio) for figure in figures if figure.ratio is not None and math.isfinite(figure.ratio)]
    values = [max(ratio, 0.01) for _, ratio in rows]
    marks = _marks([1.0, *values, *(goal for figure, _ in rows if (goal := _goal(figure)))])
    bottom = _TOP + _ROW * len(rows)
    height = bottom + 56

    def place(value: float) -> float:
        low, high = math.log(marks[0]), math.log(marks[-1])
        return _LEFT + (_RIGHT - _LEFT) * (math.log(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" style="fill: var(--paper)"/>',
        _text(24, 38, title, "title"),
        _text(24, 62, subtitle, "dim"),
    ]
    for mark in marks:
        x = place(mark)
        parts.append(_stroke("one" if mark == 1 else "grid", x, _TOP, x, bottom))
        parts.append(_text(x, bottom + 20, f"{mark:g}", "dim middle"))
    parts.append(
        _text(
            (_LEFT + _RIGHT) / 2,
            bottom + 42,
            "ratio: over 1 is better for ours; a line marks the goal, a bar of another colour misses it",
            "dim middle",
        )
    )
    for row, ((figure, ratio), value) in enumerate(zip(rows, values, strict=True)):
        parts += _bar(figure, ratio, _TOP + _ROW * row, place(1.0), place(value))
        if goal := _goal(figure):
            x, top = place(goal), _TOP + _ROW * row
            parts.append(_stroke("goal", x, top + 2, x, top + _ROW - 2))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(figure: Figure, ratio: float, top: float, one: float, end: float) -> list[str]:
    missed = " missed" if figure.is_met() is False else ""
    left, width = min(one, end), max(abs(end - one), 1.0)
    return [
        _text(_LEFT - 12, top + 16, f"{figure.name}, beside {figure.peer_name}", "end"),
        f'<rect class="bar{missed}" x="{left:.1f}" y="{top + 4}" width="{width:.1f}" height="{_ROW - 8}"/>',
        _text(_RIGHT + 14, top + 16, f"{number(ratio)} x"),
    ]


def _marks(values: Sequence[float]) -> list[float]:
    """Return the axis marks from the last mark below all values to the first mark above them."""
    lower = [mark for mark in _MARKS if mark <= min(values)] or [min(values)]
    upper = [mark for mark in _MARKS if mark > max(values)] or [max(values) * 1.1]
    return [lower[-1], *(mark for mark in _MARKS if lower[-1] < mark < upper[0]), upper[0]]


def _goal(figure: Figure) -> float | None:
    """Return the goal if it is a ratio, else None."""
    return float(figure.goal.split()[2]) if figure.goal and figure.goal.startswith("ratio") else None


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
