"""The order of boxes, rows and exchanges in columns, with few crossings of edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from runner.topology.graph import Shape
from runner.topology.picture.column_row import ColumnRow
from runner.topology.picture.drawing import Drawing
from runner.topology.picture.folding import FoldedGraph
from runner.topology.picture.lane import Lane, order_lanes, pair_crossings

#: The space between a box and its rows, and between two boxes.
BOX_PADDING, BOX_GAP = 4.0, 12.0


@dataclass(eq=False)
class QueueBox:
    """The queues that the same services consume."""

    consumers: tuple[str, ...]
    rows: list[ColumnRow]
    y: float = 0.0

    @property
    def height(self) -> float:
        """The height with the rows of all queues."""
        return sum(row.height for row in self.rows) + 2 * BOX_PADDING

    @property
    def middle(self) -> float:
        """The vertical middle of the box."""
        return self.y + self.height / 2

    def placed(self) -> Iterator[tuple[ColumnRow, float]]:
        """Yield each row with its vertical position."""
        y = self.y + BOX_PADDING
        for row in self.rows:
            yield row, y
            y += row.height


def boxes_of(graph: FoldedGraph) -> list[QueueBox]:
    """Return the boxes in the order of their services. Queues without a consumer are in the last box."""
    rows: dict[tuple[str, ...], list[ColumnRow]] = defaultdict(list)
    for node in graph.nodes:
        if node.shape is Shape.QUEUE:
            rows[tuple(graph.consumers_of(node.id))].append(ColumnRow(node, graph))
    services = [node.id for node in graph.nodes if node.shape is Shape.SERVICE]
    names = sorted(rows, key=lambda names: (not names, [services.index(name) for name in names]))
    return [QueueBox(name, rows[name]) for name in names]


def stack(boxes: Sequence[QueueBox], top: float, least: float) -> None:
    """Set ``y`` of boxes. Each box has at least the space of its consumer, whose height is ``least``."""
    y = top
    for box in boxes:
        # A head stands above the box of queues without a consumer.
        y += 18 if not box.consumers and len(boxes) > 1 else 0
        room = max(box.height, least if box.consumers else 0.0)
        box.y = y + (room - box.height) / 2
        y += room + BOX_GAP


def levels_of(boxes: Sequence[QueueBox]) -> dict[str, list[float]]:
    """Return the levels of the lines of each exchange at the left side of the boxes."""
    found: dict[str, list[float]] = defaultdict(list)
    for box in boxes:
        for row, y in box.placed():
            for edge in row.bindings:
                found[edge.source].append(y + row.level_of(edge.source))
    return found


def arranged(graph: FoldedGraph, boxes: Sequence[QueueBox], top: float, least: float) -> list[QueueBox]:
    """Return boxes in the order with the fewest crossings, which is the given order if no other order is better."""
    exchanges = [node.id for node in graph.nodes if node.shape is Shape.EXCHANGE]
    best, least_cost = list(boxes), None
    trial = [QueueBox(box.consumers, list(box.rows)) for box in boxes]
    for _ in range(6):
        stack(trial, top, least)
        cost = _cost(trial, exchanges)
        if least_cost is None or cost < least_cost:
            best, least_cost = [QueueBox(box.consumers, list(box.rows)) for box in trial], cost
        rank = _ranks(trial, exchanges)
        _sort(trial, rank)
    return best


def _ranks(boxes: Sequence[QueueBox], exchanges: Sequence[str]) -> dict[str, float]:
    levels = levels_of(boxes)
    order = sorted(exchanges, key=lambda name: median(levels[name]) if levels[name] else float("inf"))
    return {name: float(number) for number, name in enumerate(order)}


def _sort(boxes: list[QueueBox], rank: dict[str, float]) -> None:
    def mean(rows: Sequence[ColumnRow]) -> float:
        found = [rank[edge.source] for row in rows for edge in row.bindings]
        return fmean(found) if found else float("inf")

    for box in boxes:
        box.rows.sort(key=lambda row: mean([row]))
    boxes.sort(key=lambda box: (not box.consumers, mean(box.rows)))


def _cost(boxes: Sequence[QueueBox], exchanges: Sequence[str]) -> int:
    """Return the number of crossings if each exchange stands at the middle of its queues."""
    lanes = [Lane(name, {median(found)}, set(found)) for name, found in levels_of(boxes).items() if found]
    order = order_lanes(lanes)
    return sum(pair_crossings(one, other) for number, one in enumerate(order) for other in order[number + 1 :])


def kept_order(boxes: Sequence[QueueBox], previous: Drawing) -> list[QueueBox]:
    """Return boxes and rows in their previous order. New rows and boxes come last."""

    def before(row: ColumnRow) -> float:
        node = previous.find(row.node.id)
        return node.y if node is not None else float("inf")

    found = [QueueBox(box.consumers, sorted(box.rows, key=before)) for box in boxes]
    return sorted(found, key=lambda box: min((before(row) for row in box.rows), default=float("inf")))
