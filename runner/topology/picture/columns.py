"""The layout in columns: publishers, exchanges, queues and consumers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from runner.topology.graph import EdgeKind
from runner.topology.picture.column_levels import ABOVE, LIVE_CONSUMER, PUBLISHER, TOP, ColumnLevels
from runner.topology.picture.column_order import BOX_PADDING
from runner.topology.picture.column_row import RowParts
from runner.topology.picture.description import described
from runner.topology.picture.drawing import Drawing, DrawnEdge, DrawnNode, Form, GroupBox, Label, Point
from runner.topology.picture.folding import FoldedEdge, FoldedGraph, FoldedNode
from runner.topology.picture.lane import place_lanes, width_of_gap
from runner.topology.picture.text_width import DETAIL, NAME, short_name, width_of
from runner.topology.picture.way_back import Side, ways_back

#: The margin around the columns, and the baseline of their heads.
MARGIN, HEAD = 10.0, 20.0
#: The minimum gap between two columns, the distance of two lanes, and the most space for the lanes of exchanges.
LEAST_GAP, LANE, MOST_LANES = 34.0, 10.0, 240.0


def column_layout(graph: FoldedGraph, width: float, *, is_live: bool, previous: Drawing | None = None) -> Drawing:
    """Return the drawing of a graph in columns, which is wider than ``width`` only if the names need more."""
    return _Columns(graph, width, is_live, previous).drawing()


class _Columns:
    def __init__(self, graph: FoldedGraph, width: float, is_live: bool, previous: Drawing | None) -> None:
        self._graph, self._width, self._is_live = graph, width, is_live
        self._at = ColumnLevels(graph, is_live, previous)
        self._set_columns(dict(enumerate(previous.columns)) if previous is not None else {})

    def _set_columns(self, before: Mapping[int, tuple[float, float]]) -> None:
        """Set the horizontal positions of columns and lanes. Columns keep their ``before`` left end and width."""
        names = [[short_name(one.name) for one in services] for services in (self._at.publishers, self._at.consumers)]
        mark = 18.0 if self._is_live else 0.0
        publishers, consumers = (
            float(ceil(max(max(width_of(name, NAME, bold=True) for name in found) + mark + 24, 120.0)))
            if found
            else 0.0
            for found in names
        )
        exchanges = max((card.width for card in self._at.exchanges), default=0.0)
        widths = [max(one, before.get(number, (0.0, 0.0))[1]) for number, one in enumerate((publishers, exchanges))]
        gaps = [width_of_gap(len(self._at.lanes[0]), LEAST_GAP) if publishers else 0.0]
        step = min(LANE, MOST_LANES / max(1, len(self._at.lanes[1])))
        gaps.append(38.0 + step * len(self._at.lanes[1]) if exchanges else 0.0)
        gaps.append(width_of_gap(len(self._at.lanes[2]), LEAST_GAP) if consumers else 0.0)
        lefts = [MARGIN]
        for number in range(2):
            left = lefts[-1] + widths[number] + gaps[number]
            lefts.append(float(round(max(left, before.get(number + 1, (0.0, 0.0))[0]))))
        rows = [row for box in self._at.boxes for row in box.rows]
        right = max(self._width - MARGIN - consumers, before.get(3, (0.0, 0.0))[0])
        room = right - gaps[2] - lefts[2] - 2 * BOX_PADDING
        self._parts = RowParts.fitting(rows, lefts[2] + BOX_PADDING, room, is_live=self._is_live)
        self._box = (lefts[2], self._parts.width + 2 * BOX_PADDING if rows else 0.0)
        box_end = self._box[0] + self._box[1]
        lefts.append(float(round(max(box_end + gaps[2], right))))
        self._lefts, self._widths = lefts, [*widths, self._box[1], consumers]
        place_lanes(self._at.lanes[0], lefts[0] + widths[0], lefts[1])
        place_lanes(self._at.lanes[1], lefts[1] + widths[1], lefts[2])
        place_lanes(self._at.lanes[2], box_end, lefts[3])

    def drawing(self) -> Drawing:
        nodes = [*self._service_nodes(), *self._exchange_nodes()]
        boxes = []
        for box in self._at.boxes:
            placed = list(box.placed())
            nodes += [self._parts.drawn(row, y) for row, y in placed]
            rules = tuple(y for _, y in placed[1:])
            boxes.append(GroupBox(self._box[0], box.y, self._box[1], box.height, rules))
        bottoms = [box.y + box.height for box in boxes]
        bottoms += [node.y + node.height + (22.0 if node.badges and not node.is_row else 0.0) for node in nodes]
        edges = [drawn for edge in self._graph.edges for drawn in self._drawn(edge)]
        return Drawing(
            Form.COLUMNS, self._lefts[3] + self._widths[3] + MARGIN, max(bottoms, default=TOP) + MARGIN + 2,
            tuple(nodes), tuple(edges), tuple(boxes), tuple(self._heads()), self._is_live,
            tuple(zip(self._lefts, self._widths, strict=True)),
        )  # fmt: skip

    def _heads(self) -> Iterator[Label]:
        texts = ("Publishers", "Exchanges", "", "Consumers")
        for text, left, width in zip(texts, self._lefts, self._widths, strict=True):
            if text and width:
                yield Label(left, HEAD, text, "head", width_of(text, DETAIL))
        if self._at.boxes:
            yield from self._parts.heads(HEAD)
        for box in self._at.boxes if len(self._at.boxes) > 1 else ():
            if not box.consumers:
                text = "Without a consumer"
                yield Label(self._box[0] + 14, box.y - 6, text, "head", width_of(text, DETAIL))

    def _service_nodes(self) -> Iterator[DrawnNode]:
        for service in self._at.publishers:
            place = (self._lefts[0], self._at.publisher_tops[service.id], self._widths[0], PUBLISHER)
            yield self._service(service, place, "publisher")
        for service in self._at.consumers:
            place = (self._lefts[3], self._at.consumer_tops[service.id], self._widths[3], self._at.consumer_height)
            yield self._service(service, place, "consumer")

    def _service(self, node: FoldedNode, place: tuple[float, float, float, float], role: str) -> DrawnNode:
        x, y, width, height = place
        left, short = x + 12 + (18 if self._is_live else 0), short_name(node.name)
        line = y + (19 if height == LIVE_CONSUMER else 20.5)
        labels = [Label(left, line, short, "title", width_of(short, NAME, bold=True), title=node.name)]
        if height == LIVE_CONSUMER:
            path = f"services/{node.name}"
            labels.append(Label(left, y + 37, "", "detail", 48.0, value=f"{path}/rate"))
            labels.append(Label(x + width - 12, y + 37, "", "detail", 28.0, "end", value=f"{path}/instances"))
        description = described(node, self._graph)
        return DrawnNode(
            node.id, node.shape, node.name, x, y, width, height, tuple(labels), mark=(x + 11, line - 10.5),
            place=role, description=description,
        )  # fmt: skip

    def _exchange_nodes(self) -> Iterator[DrawnNode]:
        for card in self._at.exchanges:
            yield card.drawn(self._lefts[1], self._at.tops[card.node.id], self._widths[1])

    def _drawn(self, edge: FoldedEdge) -> Iterator[DrawnEdge]:
        if edge.kind is EdgeKind.DEAD_LETTER:
            return  # a text in the row of the queue
        if edge.kind is EdgeKind.CONSUME:
            yield from self._consumed(edge)
            return
        if edge.kind is EdgeKind.PUBLISH:
            start = (self._lefts[0] + self._widths[0], self._at.publisher_tops[edge.source] + PUBLISHER / 2)
            end = (self._lefts[1], self._at.middle_of(edge.target))
            points, trunk = _turned(start, end, self._at.publishing[edge.target].x), f"publish {edge.target}"
        else:
            trunk = f"{edge.source} {edge.kind.value}"
            points = self._routed(edge)
        yield DrawnEdge(edge.id, edge.kind.value, edge.source, edge.target, points, edge.keys, trunk)

    def _routed(self, edge: FoldedEdge) -> tuple[Point, ...]:
        lane = self._at.routing[edge.source].x
        start = (self._lefts[1] + self._widths[1], self._at.middle_of(edge.source))
        if edge.target in self._at.tops:
            top = self._at.tops[edge.target]
            middle = self._lefts[1] + self._widths[1] / 2 + (16 if edge.kind is EdgeKind.ALTERNATE else 0)
            return (start, (lane, start[1]), (lane, top - ABOVE), (middle, top - ABOVE), (middle, top))
        row, y = next((row, y) for box in self._at.boxes for row, y in box.placed() if row.node.id == edge.target)
        return _turned(start, (self._box[0], y + row.level_of(edge.source)), lane)

    def _consumed(self, edge: FoldedEdge) -> Iterator[DrawnEdge]:
        box = next(one for one in self._at.boxes if any(row.node.id == edge.source for row in one.rows))
        row_level = next(y + row.height / 2 for row, y in box.placed() if row.node.id == edge.source)
        right = self._box[0] + self._box[1]
        end = (self._lefts[3], self._at.entries[id(box), edge.target])
        points = _turned((right, box.middle), end, self._at.consuming[id(box)].x)
        trunk, is_covered = f"box {self._at.boxes.index(box)}", edge.source != box.rows[0].node.id
        # The way of a queue starts at its row, and is hidden by the box up to the border of the box.
        whole = ((right - 5, row_level), (right - 5, box.middle), *points)
        yield DrawnEdge(edge.id, edge.kind.value, edge.source, edge.target, whole, edge.keys, trunk, is_covered)
        if self._is_live:
            consumer = Side(self._at.consumer_tops[edge.target], self._at.consumer_height)
            yield from ways_back(edge, points, Side(box.y, box.height), consumer)


def _turned(start: Point, end: Point, lane: float) -> tuple[Point, ...]:
    if abs(start[1] - end[1]) < 0.5:
        return (start, end)
    return (start, (lane, start[1]), (lane, end[1]), end)
