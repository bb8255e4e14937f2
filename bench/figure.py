"""A figure of the benchmarks: the product's value, a peer's value, their ratio and the goal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

_GOAL = re.compile(r"(ratio|ours) (>=|<=) (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Figure:
    """Medians of several runs. ``ratio`` is over 1 if the product is better, that is, faster or smaller.

    ``goal`` is ``ratio >= 5`` or ``ours <= 3`` (either sign with either word), or None. ``peer``, ``peer_name`` and
    ``ratio`` are None if no peer was measured. Raises ValueError for a goal of another form.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    goal: str | None = None
    #: The least and the greatest value of all runs.
    ours_range: tuple[float, float] | None = None
    peer_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.goal is not None:
            match = _GOAL.fullmatch(self.goal)
            if match is None:
                raise ValueError(f"{self.name}: goal {self.goal!r}; allowed: 'ratio >= 5', 'ours <= 3'")
            if match[1] == "ratio" and self.ratio is None:
                raise ValueError(f"{self.name}: goal {self.goal!r} without a peer; allowed: a goal for ours")

    @classmethod
    def alone(cls, name: str, unit: str, ours: Sequence[float], goal: str | None = None) -> Figure:
        """Create a figure without a peer from the values of all runs."""
        return cls(name, unit, median(ours), goal=goal, ours_range=_range(ours))

    @classmethod
    def beside(
        cls,
        name: str,
        unit: str,
        ours: Sequence[float],
        peer: Sequence[float],
        peer_name: str,
        goal: str | None = None,
        *,
        less_is_better: bool = False,
    ) -> Figure:
        """Create a figure with a peer from the values of all runs. The ratio is that of the medians."""
        mine, its = median(ours), median(peer)
        over, under = (its, mine) if less_is_better else (mine, its)
        ratio = over / under if under else math.inf
        return cls(name, unit, mine, its, peer_name, ratio, goal, _range(ours), _range(peer))

    def is_met(self) -> bool | None:
        """True if the goal is met, None if there is no goal."""
        match = None if self.goal is None else _GOAL.fullmatch(self.goal)
        if match is None:
            return None
        value = self.ours if match[1] == "ours" or self.ratio is None else self.ratio
        limit = float(match[3])
        return value >= limit if match[2] == ">=" else value <= limit

    def as_json(self) -> dict[str, Any]:
        """Return the entry of ``latest.json``, with numbers to four digits."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": _rounded(self.ours),
            "peer": _rounded(self.peer),
            "peer_name": self.peer_name,
            "ratio": _rounded(self.ratio),
            "goal": self.goal,
        }


def number(value: float) -> str:
    """Format a number for a table: three significant digits or all whole digits, with thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _rounded(value: float | None) -> float | None:
    # JSON has no infinity, which is the ratio to a peer that measures 0.
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
