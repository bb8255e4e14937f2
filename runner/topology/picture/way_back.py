"""The paths of messages that a service gives up, which run beside the path from the queue to the service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from runner.topology.picture.drawing import DrawnEdge, Point
from runner.topology.picture.folding import FoldedEdge

#: The distances of the ways from the way to the service, in the order of preference.
_SHIFTS = {"retry": (6.0, -6.0), "dead": (12.0, -12.0)}


class Side(NamedTuple):
    """The side of a node or box at which a way starts or ends."""

    y: float
    height: float

    def contains(self, level: float) -> bool:
        """Return True if a way may end at a level."""
        return self.y + 3 <= level <= self.y + self.height - 3


def ways_back(edge: FoldedEdge, points: Sequence[Point], source: Side, target: Side) -> Iterator[DrawnEdge]:
    """Yield the ways from a service to the retry queues and to the dead-letter queue of a queue that it consumes.

    ``edge`` is the way from the queue to the service along ``points``, from the side of ``source`` to that of
    ``target``.
    """
    queue = edge.source.removeprefix("queue ")
    for word, shifts in _SHIFTS.items():
        ends = ((points[0][1], source), (points[-1][1], target))
        fitting = (one for one in shifts if all(side.contains(level + one) for level, side in ends))
        shift = next(fitting, 0.0)
        back = tuple(
            (x + (abs(shift) if 0 < number < len(points) - 1 else 0), y + shift) for number, (x, y) in enumerate(points)
        )
        name = f"{edge.target}>{word} {queue}"
        yield DrawnEdge(name, word, edge.target, edge.source, back[::-1], (), f"{edge.target} {word} {queue}")
