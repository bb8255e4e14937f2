"""The vertical positions of the blocks and bars of a chain, at which most edges are straight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from runner.topology.picture.block import Bar, Block
from runner.topology.picture.chain_order import Leg, Place
from runner.topology.picture.spacing import nearest_free

#: The space between two blocks, between a bar and a block, and between two bars.
BLOCK_GAP, BAR_GAP = 30.0, 14.0
#: The cost of a turn, beside that of a pixel of vertical distance, and of a pixel of the chain's height.
_TURN, _HEIGHT = 40.0, 0.1
#: The maximum number of passes over all places, and of distances that are measured in all passes.
_PASSES, _MOST_DISTANCES = 8, 150_000


def set_levels(order: Sequence[Place], legs: Sequence[Leg], known: Mapping[Block, float]) -> None:
    """Set ``y`` of all blocks and bars. ``known`` blocks move only down, and only if a new block needs their place."""
    columns: dict[int, list[Place]] = defaultdict(list)
    for place in order:
        for column in _columns_of(place):
            columns[column].append(place)
    if known:
        _keep(order, columns, legs, known)
    else:
        _Levels(order, columns, legs).improve()


class _Levels:
    """The levels of all places, which keep their order and their distance in each column."""

    def __init__(self, order: Sequence[Place], columns: Mapping[int, list[Place]], legs: Sequence[Leg]) -> None:
        self._order, self._legs = order, legs
        self._before: dict[Place, list[Place]] = defaultdict(list)
        self._after: dict[Place, list[Place]] = defaultdict(list)
        for column in columns.values():
            for one, other in pairwise(column):
                self._before[other].append(one)
                self._after[one].append(other)
        self._ends = _ends(legs)
        for place in order:
            place.y = max((_below(one, place) for one in self._before[place]), default=0.0)

    def improve(self) -> None:
        """Move places, and those that they push, while this makes the edges straighter."""
        best, moves, improved = self._cost(), 0, True
        for _ in range(_PASSES):
            if not improved:
                break
            improved = False
            for place in (*self._order, *reversed(self._order)):
                if moves * (len(self._legs) + len(self._order)) > _MOST_DISTANCES:
                    break
                for level in dict.fromkeys(self._candidates(place)):
                    before = [one.y for one in self._order]
                    self._move(place, level)
                    cost = self._cost()
                    moves += 1
                    if cost < best - 0.01:
                        best, improved = cost, True
                        continue
                    for one, y in zip(self._order, before, strict=True):
                        one.y = y
        top = min((place.y for place in self._order), default=0.0)
        for place in self._order:
            place.y = float(round(place.y - top))

    def _candidates(self, place: Place) -> Iterator[float]:
        for leg in self._ends[place]:
            low, high = _levels_for(leg, place)
            yield min(max(place.y, low), high)
            yield from (round((low + high) / 2), low, high)

    def _move(self, place: Place, level: float) -> None:
        place.y = level
        waiting = [place]
        while waiting:
            one = waiting.pop()
            for other in self._after[one]:
                if other.y < _below(one, other):
                    other.y = _below(one, other)
                    waiting.append(other)
        waiting = [place]
        while waiting:
            one = waiting.pop()
            for other in self._before[one]:
                if _below(other, one) > one.y:
                    other.y -= _below(other, one) - one.y
                    waiting.append(other)

    def _cost(self) -> float:
        cost = 0.0
        for leg in self._legs:
            start, end = leg.start.place.y + leg.start.middle, leg.end.place.y
            away = max(end + leg.end.low - start, start - end - leg.end.high, 0.0)
            cost += away + (_TURN if away > 0 else abs(end + leg.end.middle - start) / 40)
        tops = min((one.y for one in self._order), default=0.0)
        return cost + _HEIGHT * (max((one.y + _height(one) for one in self._order), default=0.0) - tops)


def _columns_of(place: Place) -> range:
    return range(place.column, place.column + 1) if isinstance(place, Block) else range(place.first, place.last + 1)


def _height(place: Place) -> float:
    return place.height if isinstance(place, Block) else 0.0


def _below(one: Place, other: Place) -> float:
    """Return the lowest ``y`` of a place below another place."""
    gap = BLOCK_GAP if isinstance(one, Block) and isinstance(other, Block) else BAR_GAP
    return one.y + _height(one) + gap


def _ends(legs: Sequence[Leg]) -> dict[Place, list[Leg]]:
    found: dict[Place, list[Leg]] = defaultdict(list)
    for leg in legs:
        found[leg.start.place].append(leg)
        found[leg.end.place].append(leg)
    return found


def _levels_for(leg: Leg, place: Place) -> tuple[float, float]:
    """Return the lowest and the highest level of a place at which a leg is straight."""
    own, other = (leg.start, leg.end) if leg.start.place is place else (leg.end, leg.start)
    return other.place.y + other.low - own.high, other.place.y + other.high - own.low


def _wanted(place: Place, legs: Sequence[Leg]) -> float:
    """Return the level at which most legs of a place are straight."""
    if isinstance(place, Bar):
        # The way to the target is straight if the target allows the level of the source.
        start = next(leg.start.place.y + leg.start.middle for leg in legs if leg.end.place is place)
        ends = [leg.end for leg in legs if leg.end.place is not place]
        return median(min(max(start, one.place.y + one.low), one.place.y + one.high) for one in ends)
    levels = [sum(_levels_for(leg, place)) / 2 for leg in legs]
    return median(levels) if levels else place.y


def _keep(
    order: Sequence[Place], columns: Mapping[int, list[Place]], legs: Sequence[Leg], known: Mapping[Block, float]
) -> None:
    ends = _ends([leg for leg in legs if isinstance(leg.start.place, Block) and isinstance(leg.end.place, Block)])
    for block, level in known.items():
        block.y = level
    for column in columns.values():
        bottom = -BLOCK_GAP
        for block in (one for one in column if isinstance(one, Block)):
            wanted = known[block] if block in known else _wanted(block, ends[block])
            block.y = float(round(max(bottom + BLOCK_GAP, wanted)))
            bottom = block.y + block.height
    ends = _ends(legs)
    placed: list[Bar] = []
    for bar in (one for one in order if isinstance(one, Bar)):
        bar.y = _wanted(bar, ends[bar])
        bar.y = _free_level(bar, columns, placed)
        placed.append(bar)


def _free_level(bar: Bar, columns: Mapping[int, list[Place]], placed: Sequence[Bar]) -> float:
    """Return the level nearest to that of a bar at which no block and no other bar stands."""
    taken = [
        (block.y - BAR_GAP, block.y + block.height + BAR_GAP)
        for number in _columns_of(bar)
        for block in columns[number]
        if isinstance(block, Block)
    ]
    taken += [(one.y - BAR_GAP, one.y + BAR_GAP) for one in placed if one.first <= bar.last and bar.first <= one.last]
    return nearest_free(bar.y, taken, 0.0)
