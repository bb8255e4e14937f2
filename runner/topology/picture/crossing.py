"""The number of crossings in a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runner.topology.picture.drawing import DrawnEdge


def crossings(edges: Sequence[DrawnEdge]) -> int:
    """Return the number of points at which edges of different trunks cross, without the ways of given-up messages."""
    horizontal: set[tuple[str, str, float, float, float]] = set()
    vertical: set[tuple[str, str, float, float, float]] = set()
    for edge in edges:
        if edge.kind in ("retry", "dead"):
            continue
        for (x1, y1), (x2, y2) in pairwise(edge.points):
            if abs(y1 - y2) < 0.01:
                horizontal.add((edge.trunk, edge.target, y1, min(x1, x2), max(x1, x2)))
            else:
                vertical.add((edge.trunk, edge.target, x1, min(y1, y2), max(y1, y2)))
    found = {
        (*sorted((one, other)), x, y)
        for one, target, y, left, right in horizontal
        for other, other_target, x, top, bottom in vertical
        if one != other and left < x < right and top < y < bottom
    }
    return len(found)
