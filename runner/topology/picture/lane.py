"""The vertical lanes in a gap between two columns, in the order with the fewest crossings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

#: The distance of two lanes, and of the lanes from the columns beside them. An arrow stands before the right column.
LANE, BEFORE, AFTER = 10.0, 14.0, 22.0
#: The number of lanes up to which all orders are compared.
ALL_ORDERS = 6
#: The cost of two lines that cover each other, beside that of a crossing.
_COVER = 8


@dataclass(eq=False)
class Lane:
    """The vertical line of one trunk in a gap, with the levels of the horizontal lines that meet the vertical line."""

    trunk: str
    left: set[float] = field(default_factory=set)
    right: set[float] = field(default_factory=set)
    x: float = 0.0

    @property
    def low(self) -> float:
        """The upper end."""
        return min(self.left | self.right)

    @property
    def high(self) -> float:
        """The lower end."""
        return max(self.left | self.right)

    @property
    def is_turning(self) -> bool:
        """True if the trunk has a vertical line."""
        return self.high - self.low > 0.5


def order_lanes(lanes: Sequence[Lane]) -> list[Lane]:
    """Return the lanes with a vertical line from left to right, in the order with the fewest crossings."""
    turning = [lane for lane in lanes if lane.is_turning]
    turning.sort(key=lambda lane: (-lane.low, lane.high))
    pairs = {(one, other): _pair_cost(one, other) for one in turning for other in turning if one is not other}

    def cost(found: Iterable[Lane]) -> int:
        order = list(found)
        return sum(pairs[one, other] for number, one in enumerate(order) for other in order[number + 1 :])

    if len(turning) <= ALL_ORDERS:
        return list(min(permutations(turning), key=cost))
    best, improved = cost(turning), True
    while improved:
        improved = False
        for position in range(len(turning) - 1):
            one, other = turning[position], turning[position + 1]
            change = pairs[other, one] - pairs[one, other]
            if change < 0:
                turning[position], turning[position + 1] = other, one
                best, improved = best + change, True
    return turning


def pair_crossings(first: Lane, second: Lane) -> int:
    """Return the number of crossings of a lane with a lane to its right."""
    # The left lines of the second lane cross the first lane, and the right lines of the first cross the second.
    crossings = sum(first.low < level < first.high for level in second.left)
    return crossings + sum(second.low < level < second.high for level in first.right)


def _pair_cost(first: Lane, second: Lane) -> int:
    covers = sum(abs(level - end) < 3 for level in second.left for end in (first.low, first.high, *first.right))
    covers += sum(abs(level - end) < 3 for level in first.right for end in (second.low, second.high))
    return pair_crossings(first, second) + _COVER * covers


def width_of_gap(turning: int, least: float) -> float:
    """Return the width of a gap with a number of lanes in pixels."""
    return max(least, BEFORE + LANE * (turning - 1) + AFTER) if turning else least


def place_lanes(order: Sequence[Lane], left: float, right: float) -> None:
    """Set ``x`` of each lane between the columns at ``left`` and ``right``."""
    room = right - left - BEFORE - AFTER
    step = min(14.0, room / (len(order) - 1)) if len(order) > 1 else 0.0
    start = left + BEFORE + (room - step * (len(order) - 1)) / 2
    for number, lane in enumerate(order):
        lane.x = round(start + step * number)
