"""Positions on a line: levels that keep their order and their distance, and free places between others."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return levels between ``low`` and ``high`` that are near the wanted levels, in their order, ``gap`` apart."""
    gap = min(gap, (high - low) / (len(wanted) - 1)) if len(wanted) > 1 else gap
    levels: list[float] = []
    for level in wanted:
        levels.append(max(level, levels[-1] + gap) if levels else level)
    limit = high
    for number in range(len(levels) - 1, -1, -1):
        levels[number] = min(levels[number], limit)
        limit = levels[number] - gap
    return levels


def settled(wanted: Sequence[float], sizes: Sequence[float], gap: float, top: float) -> list[float]:
    """Return the tops of boxes that are as near to their wanted tops as their order and the gap allow."""
    # Boxes that would overlap form a cluster, which stands at the mean of the places that its boxes want.
    clusters: list[tuple[float, list[int]]] = []
    offsets = [0.0] * len(wanted)
    for number, level in enumerate(wanted):
        members, start = [number], max(level, top)
        while clusters and clusters[-1][0] + _length(clusters[-1][1], offsets, sizes) + gap > start:
            _, before = clusters.pop()
            shift = _length(before, offsets, sizes) + gap
            for one in members:
                offsets[one] += shift
            members = [*before, *members]
            start = max(fmean(wanted[one] - offsets[one] for one in members), top)
        clusters.append((start, members))
    return [float(round(start + offsets[one])) for start, members in clusters for one in members]


def _length(members: Sequence[int], offsets: Sequence[float], sizes: Sequence[float]) -> float:
    return offsets[members[-1]] + sizes[members[-1]]


def nearest_free(wanted: float, taken: Sequence[tuple[float, float]], lowest: float) -> float:
    """Return the place nearest to the wanted place, from ``lowest`` on, that is inside none of the taken ranges."""
    places = [max(wanted, lowest), lowest, *(end for ends in taken for end in ends)]
    free = [one for one in places if one >= lowest and not any(low < one < high for low, high in taken)]
    nearest = min(free, key=lambda one: (abs(one - wanted), one))
    return float(round(nearest))
