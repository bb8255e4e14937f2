"""The table of ratios as text."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figure import Figure, number

_HEAD = ("FIGURE", "OURS", "PEER", "PEER'S", "RATIO", "GOAL", "")


def table(figures: Sequence[Figure]) -> str:
    """Return a line for each figure: medians, least and greatest values in brackets, and whether the goal is met."""
    rows = [_HEAD, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows) + "\n"


def _row(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "met", False: "MISSED"}[figure.is_met()]
    return (
        figure.name,
        f"{_spread(figure.ours, figure.ours_range)} {figure.unit}",
        figure.peer_name or "",
        "" if figure.peer is None else _spread(figure.peer, figure.peer_range),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        figure.goal or "",
        met,
    )


def _spread(value: float, between: tuple[float, float] | None) -> str:
    if between is None or between[0] == between[1]:
        return number(value)
    return f"{number(value)} ({number(between[0])}-{number(between[1])})"
