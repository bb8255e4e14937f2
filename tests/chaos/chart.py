"""An SVG chart of a run with injected faults: the throughput, the waiting messages, and the faults over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tests.chaos.axis import Axis, duration, grouped, time_axis, time_text, value_axis

#: Seconds since the start of the run, the kind, and the duration in seconds.
Fault = tuple[float, str, float]
Points = list[tuple[float, float]]

WIDTH, HEIGHT = 1200, 740
_LEFT, _RIGHT = 176, 1172
#: The top of the upper panel, the bottom of the fault rows, and the gaps between panels and rows.
_TOP, _BOTTOM, _GAP, _ROW_GAP = 108, 684, 46, 20
#: The upper panel's share of the height of both panels.
_UPPER_SHARE = 0.62
#: The maximum height of a row.
_HIGHEST_ROW = 17.0
_MOST_ROWS_HEIGHT = 212.0
#: The approximate number of points. Between two points, rates are averaged, and of waiting messages the maximum is
#: shown.
_MOST_POINTS = 330
#: Colours like those of Okabe and Ito, distinct for people with any colour vision, on white and on black.
_COLOURS = (
    "#0a9396", "#d6336c", "#b87900", "#a64ac9", "#2b7de9", "#6a9a1f", "#d9480f", "#6b7f93", "#8f6b4e", "#a09000",
)  # fmt: skip
_STYLE = """
svg { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; --ink: #1f2328; --dim: #59636e; --grid: #dfe4e9;
  --paper: #fff; --accepted: #0b62c4; --done: #e8590c; --waiting: #6b4fbb; }
@media (prefers-color-scheme: dark) { svg { --ink: #f0f3f6; --dim: #a3acb6; --grid: #2c333b; --paper: #0d1117;
  --accepted: #58a6ff; --done: #ffa657; --waiting: #b9a1ff; } }
text { fill: var(--ink); } .dim { fill: var(--dim); } .title { font-size: 19px; font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--dim); } .end { text-anchor: end; } .middle { text-anchor: middle; }
.line { fill: none; stroke-width: 1.7; stroke-linejoin: round; } .area { fill: var(--waiting); opacity: .25; }
.accepted { stroke: var(--accepted); stroke-width: 4; opacity: .55; }
.done { stroke: var(--done); } .waiting { stroke: var(--waiting); }
.through { opacity: .38; } .lasting { opacity: .35; } .row { font-size: 12px; }
"""


@dataclass(frozen=True)
class Sample:
    """The counts at one moment."""

    #: Seconds since the start of the run.
    at: float
    #: Orders answered 202 up to now.
    accepted: int
    #: Orders done up to now.
    done: int
    #: Messages that wait in queues at this moment.
    waiting: int


@dataclass(frozen=True)
class _Area:
    """The top and bottom of the panels and of the fault rows below them."""

    upper: tuple[float, float]
    lower: tuple[float, float]
    row_height: float
    rows: tuple[float, float]

    @classmethod
    def of(cls, kinds: int) -> _Area:
        """Return the layout for a number of rows. The panels use the remaining height."""
        row_height = min(_HIGHEST_ROW, _MOST_ROWS_HEIGHT / max(1, kinds))
        rows = _BOTTOM - kinds * row_height
        height = rows - (_ROW_GAP if kinds else 0) - _TOP - _GAP
        middle = _TOP + round(height * _UPPER_SHARE)
        return cls((_TOP, middle), (middle + _GAP, _TOP + height + _GAP), row_height, (rows, _BOTTOM))

    @property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """Return the parts that the time axis crosses."""
        return self.upper, self.lower, self.rows


def chart(samples: Sequence[Sample], faults: Sequence[Fault], title: str) -> str:
    """Draw orders per second, waiting messages and each fault over one time axis, as an SVG of 1200 x 740.

    The reader's colour scheme selects light or dark colours. Raises ValueError for fewer than two samples.
    """
    samples = sorted(samples, key=lambda one: one.at)
    if len(samples) < 2 or samples[0].at == samples[-1].at:
        raise ValueError(f"chart: not enough samples, {len(samples)}; at least two, at different times")
    faults = sorted(faults)
    first, last = samples[0], samples[-1]
    area = _Area.of(len({kind for _, kind, _ in faults}))
    times = time_axis(max([last.at, *(at for at, _, _ in faults)]), _LEFT, _RIGHT)
    accepted, done = _rates(samples, lambda one: one.accepted), _rates(samples, lambda one: one.done)
    waiting = _highest(samples)
    rates = value_axis(max(value for _, value in (*accepted, *done)), *reversed(area.upper))
    counts = value_axis(max(value for _, value in waiting), *reversed(area.lower))
    facts = (
        f"{grouped(last.accepted - first.accepted)} orders answered 202, {grouped(last.done - first.done)} done,"
        f" {grouped(len(faults))} faults in {duration(last.at - first.at)}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill: var(--paper)"/>',
        _text(24, 38, title, "title"),
        _text(24, 62, facts, "dim"),
        *_panel(times, rates, "orders per second"),
        *_panel(times, counts, "messages"),
        *_faults(faults, times, area),
        _area(waiting, times, counts),
        _line("waiting", waiting, times, counts),
        _line("accepted", accepted, times, rates),
        _line("done", done, times, rates),
        *_legend((("accepted", "answered 202"), ("done", "done")), area.upper[0] - 14),
        *_legend((("waiting", "waiting in queues (the maximum)"),), area.lower[0] - 14),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _rates(samples: Sequence[Sample], count: Callable[[Sample], int]) -> Points:
    """Return the counts per second between neighbouring points, each at the middle of the two."""
    points = []
    for before, after in _neighbours(samples):
        rate = max(0, count(after) - count(before)) / (after.at - before.at)
        points.append(((before.at + after.at) / 2, rate))
    return points


def _neighbours(samples: Sequence[Sample]) -> Iterable[tuple[Sample, Sample]]:
    """Return pairs of samples that are about one point apart."""
    least = (samples[-1].at - samples[0].at) / _MOST_POINTS
    before = samples[0]
    for after in samples[1:]:
        if after.at - before.at >= least or after is samples[-1]:
            if after.at > before.at:
                yield before, after
            before = after


def _highest(samples: Sequence[Sample]) -> Points:
    """Return the maximum number of waiting messages for each point, and its time."""
    width = (samples[-1].at - samples[0].at) / _MOST_POINTS
    highest: dict[int, Sample] = {}
    for one in samples:
        number = int((one.at - samples[0].at) / width)
        if number not in highest or one.waiting > highest[number].waiting:
            highest[number] = one
    return [(one.at, one.waiting) for one in highest.values()]


def _panel(times: Axis, values: Axis, unit: str) -> list[str]:
    parts = [_text(24, values.end - 14, unit, "dim")]
    for value in values.marks:
        y = values.place(value)
        parts.append(_stroke("grid" if value else "axis", times.begin, y, times.end, y))
        parts.append(_text(times.begin - 10, y + 4.5, grouped(value), "dim end"))
    return parts


def _faults(faults: Sequence[Fault], times: Axis, area: _Area) -> list[str]:
    """Draw a line through the panels for each fault, and a row for each kind with name, count and durations."""
    kinds = Counter(kind for _, kind, _ in faults)
    height = area.row_height
    parts = _time_marks(times, area)
    tops = {kind: area.rows[0] + height * number for number, kind in enumerate(kinds)}
    colours = {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(kinds)}
    for kind, top in tops.items():
        middle = top + height / 2
        parts.append(_stroke("grid", times.begin, middle, times.end, middle))
        parts.append(
            f'<text class="row end" x="{times.begin - 10:g}" y="{middle + 4:.1f}">{escape(kind)}'
            f'<tspan style="fill: {colours[kind]}; font-weight: 700">  {grouped(kinds[kind])}</tspan></text>'
        )
    for at, kind, lasts in faults:
        x, end = times.place(at), times.place(min(at + lasts, times.top))
        top, colour = tops[kind] + 2, colours[kind]
        for begin, until in (area.upper, area.lower):
            parts.append(_stroke("through", x, begin, x, until, colour))
        if end - x > 2:
            parts.append(
                f'<rect class="lasting" x="{x:.1f}" y="{top + 1:.1f}" width="{end - x:.1f}"'
                f' height="{height - 6:.1f}" fill="{colour}"/>'
            )
        parts.append(_stroke("tick", x, top, x, top + height - 4, colour, 2))
    return parts


def _time_marks(times: Axis, area: _Area) -> list[str]:
    parts = []
    for value in times.marks:
        x = times.place(value)
        for begin, until in area.parts:
            parts.append(_stroke("grid", x, begin, x, until))
        parts.append(_text(x, _BOTTOM + 20, time_text(value), "dim middle"))
    unit = "time since the start (h:min:s)" if times.top >= 3600 else "time since the start (min:s)"
    parts.append(_text((times.begin + times.end) / 2, _BOTTOM + 42, unit, "dim middle"))
    return parts


def _line(name: str, points: Points, times: Axis, values: Axis) -> str:
    places = " ".join(f"{times.place(at):.1f},{values.place(value):.1f}" for at, value in points)
    return f'<polyline class="line {name}" points="{places}"/>'


def _area(points: Points, times: Axis, values: Axis) -> str:
    whole = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
    places = " ".join(f"{times.place(at):.1f},{values.place(value):.1f}" for at, value in whole)
    return f'<polygon class="area" points="{places}"/>'


def _legend(entries: Sequence[tuple[str, str]], y: float) -> list[str]:
    parts, x = [], float(_LEFT)
    for name, text in entries:
        parts.append(f'<line class="line {name}" x1="{x:g}" y1="{y - 4:g}" x2="{x + 22:g}" y2="{y - 4:g}"/>')
        parts.append(_text(x + 29, y, text))
        x += 29 + 7.2 * len(text) + 28
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _stroke(kind: str, x1: float, y1: float, x2: float, y2: float, colour: str = "", width: float = 1) -> str:
    paint = f' stroke="{colour}" stroke-width="{width:g}"' if colour else ""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{paint}/>'
