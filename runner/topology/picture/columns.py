"""The layout in columns: publishers, exchanges, queues and consumers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from statistics import fmean, median

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.card import Card, described
from runner.topology.picture.chain import ways_back
from runner.topology.picture.column_order import (
    BOX_PADDING,
    arranged,
    boxes_of,
    kept_order,
    levels_of,
    stack,
)  # fmt: skip
from runner.topology.picture.column_row import RowParts
from runner.topology.picture.drawing import Drawing, DrawnEdge, DrawnNode, Form, GroupBox, Label, Point
from runner.topology.picture.folding import FoldedEdge, FoldedGraph, FoldedNode
from runner.topology.picture.lane import Lane, order_lanes, place_lanes, width_of_gap
from runner.topology.picture.spacing import nearest_free, settled, spread
from runner.topology.picture.text_width import DETAIL, NAME, short_name, width_of

#: The margin around the columns, the baseline of their heads, and the top of the first box.
MARGIN, HEAD, TOP = 10.0, 20.0, 36.0
#: The heights of a publisher, and of a consumer without and with live figures.
PUBLISHER, CONSUMER, LIVE_CONSUMER = 32.0, 32.0, 48.0
#: The least distance of two publishers or consumers, and of two exchanges. An edge may lead to the top of an exchange.
SERVICE_GAP, EXCHANGE_GAP = 12.0, 26.0
#: The least gap between two columns, the distance of two lanes, and the most space for the lanes of exchanges.
LEAST_GAP, LANE, MOST_LANES = 34.0, 10.0, 240.0
#: The distance of an edge above the exchange to whose top the edge leads.
ABOVE = 13.0


def column_layout(graph: FoldedGraph, width: float, *, is_live: bool, previous: Drawing | None = None) -> Drawing:
    """Return the drawing of a graph in columns, which is wider than ``width`` only if the names need more."""
    return _Columns(graph, width, is_live, previous).drawing()


class _Columns:
    def __init__(self, graph: FoldedGraph, width: float, is_live: bool, previous: Drawing | None) -> None:
        self._graph, self._width, self._is_live, self._previous = graph, width, is_live, previous
        self._consumer_height = LIVE_CONSUMER if is_live else CONSUMER
        found = boxes_of(graph)
        if previous is None:
            self._boxes = arranged(graph, found, TOP, self._consumer_height)
        else:
            self._boxes = kept_order(found, previous)
        stack(self._boxes, TOP, self._consumer_height)
        self._levels = levels_of(self._boxes)
        self._exchanges = [Card(one, graph, is_live) for one in graph.nodes if one.shape is Shape.EXCHANGE]
        services = [one for one in graph.nodes if one.shape is Shape.SERVICE]
        readers = {edge.target for edge in graph.edges if edge.kind is EdgeKind.CONSUME}
        writers = {edge.source for edge in graph.edges if edge.kind is EdgeKind.PUBLISH}
        self._consumers = [one for one in services if one.id in readers]
        self._publishers = [one for one in services if one.id in writers or one.id not in readers]
        self._set_levels()
        self._set_lanes()
        self._set_columns()

    def _set_levels(self) -> None:
        """Set the top of each exchange, publisher and consumer."""
        widest = max((card.width for card in self._exchanges), default=0.0)
        self._heights = {card.node.id: card.height_at(widest) for card in self._exchanges}
        sizes = {card.node.id: self._heights[card.node.id] + card.foot for card in self._exchanges}
        wanted = {}
        for card in self._exchanges:
            name = card.node.id
            wanted[name] = (median(self._levels[name]) if self._levels[name] else 0.0) - self._heights[name] / 2
        for name in wanted:
            # An exchange without a queue stands beside the exchanges that route to it.
            near = [
                wanted[one.source] + 1 for one in self._edges(EdgeKind.BIND, EdgeKind.ALTERNATE) if one.target == name
            ]
            if not self._levels[name] and near:
                wanted[name] = fmean(near)
        self._tops = self._placed(wanted, sizes, EXCHANGE_GAP, "")
        wanted = {}
        for service in self._publishers:
            ends = [self._middle(one.target) for one in self._edges(EdgeKind.PUBLISH) if one.source == service.id]
            wanted[service.id] = (fmean(ends) if ends else max(self._tops.values(), default=TOP)) - PUBLISHER / 2
        sizes = {service.id: PUBLISHER for service in self._publishers}
        self._publisher_tops = self._placed(wanted, sizes, SERVICE_GAP, "publisher")
        wanted = {}
        for service in self._consumers:
            wanted[service.id] = fmean(box.middle for box in self._boxes if service.id in box.consumers)
            wanted[service.id] -= self._consumer_height / 2
        order = sorted(wanted, key=lambda name: wanted[name])
        heights = [self._consumer_height for _ in order]
        found = settled([wanted[name] for name in order], heights, SERVICE_GAP, TOP)
        self._consumer_tops = dict(zip(order, found, strict=True))

    def _edges(self, *kinds: EdgeKind) -> Iterator[FoldedEdge]:
        return (edge for edge in self._graph.edges if edge.kind in kinds)

    def _middle(self, exchange: str) -> float:
        return self._tops[exchange] + self._heights[exchange] / 2

    def _placed(
        self, wanted: Mapping[str, float], sizes: Mapping[str, float], gap: float, place: str
    ) -> dict[str, float]:
        """Return the top of each node of a column. Nodes of the previous drawing stay in their places."""
        kept = {}
        for name in wanted:
            node = self._previous.find(name, place) if self._previous is not None else None
            if node is not None:
                kept[name] = node.y
        order = sorted((name for name in wanted if name not in kept), key=lambda name: wanted[name])
        if not kept:
            tops = settled([wanted[name] for name in order], [sizes[name] for name in order], gap, TOP)
            return dict(zip(order, tops, strict=True))
        for name in order:
            taken = [(top - gap - sizes[name], top + sizes[one] + gap) for one, top in kept.items()]
            kept[name] = nearest_free(wanted[name], taken, TOP)
        return kept

    def _set_lanes(self) -> None:
        """Set the lanes of publishers, exchanges and boxes, and the levels at which edges enter consumers."""
        publishing = {card.node.id: Lane(card.node.id) for card in self._exchanges}
        for edge in self._edges(EdgeKind.PUBLISH):
            publishing[edge.target].left.add(self._publisher_tops[edge.source] + PUBLISHER / 2)
            publishing[edge.target].right.add(self._middle(edge.target))
        routing = {name: Lane(name, {self._middle(name)}, set(self._levels[name])) for name in self._tops}
        for edge in self._edges(EdgeKind.BIND, EdgeKind.ALTERNATE):
            if edge.target in self._tops:
                routing[edge.source].left.add(self._tops[edge.target] - ABOVE)
        self._entries: dict[tuple[int, str], float] = {}
        consuming = {id(box): Lane(str(number), {box.middle}) for number, box in enumerate(self._boxes)}
        for name, top in self._consumer_tops.items():
            boxes = sorted((box for box in self._boxes if name in box.consumers), key=lambda box: box.middle)
            low, high = top + 8, top + self._consumer_height - 8
            wanted = [min(max(box.middle, low), high) for box in boxes]
            for box, level in zip(boxes, spread(wanted, 8.0, low, high), strict=True):
                self._entries[id(box), name] = level
                consuming[id(box)].right.add(level)
        self._lane_maps = (publishing, routing, consuming)
        self._lanes = tuple(
            order_lanes([lane for lane in lanes.values() if lane.left or lane.right]) for lanes in self._lane_maps
        )

    def _set_columns(self) -> None:
        """Set the horizontal positions of columns and lanes."""
        before = dict(enumerate(self._previous.columns)) if self._previous is not None else {}
        names = [[short_name(one.name) for one in services] for services in (self._publishers, self._consumers)]
        mark = 18.0 if self._is_live else 0.0
        publishers, consumers = (
            float(ceil(max(max(width_of(name, NAME, bold=True) for name in found) + mark + 24, 120.0)))
            if found
            else 0.0
            for found in names
        )
        exchanges = max((card.width for card in self._exchanges), default=0.0)
        widths = [max(one, before.get(number, (0.0, 0.0))[1]) for number, one in enumerate((publishers, exchanges))]
        gaps = [width_of_gap(len(self._lanes[0]), LEAST_GAP) if publishers else 0.0]
        step = min(LANE, MOST_LANES / max(1, len(self._lanes[1])))
        gaps.append(38.0 + step * len(self._lanes[1]) if exchanges else 0.0)
        gaps.append(width_of_gap(len(self._lanes[2]), LEAST_GAP) if consumers else 0.0)
        lefts = [MARGIN]
        for number in range(2):
            left = lefts[-1] + widths[number] + gaps[number]
            lefts.append(float(round(max(left, before.get(number + 1, (0.0, 0.0))[0]))))
        rows = [row for box in self._boxes for row in box.rows]
        right = max(self._width - MARGIN - consumers, before.get(3, (0.0, 0.0))[0])
        room = right - gaps[2] - lefts[2] - 2 * BOX_PADDING
        self._parts = RowParts.fitting(rows, lefts[2] + BOX_PADDING, room, is_live=self._is_live)
        self._box = (lefts[2], self._parts.width + 2 * BOX_PADDING if rows else 0.0)
        box_end = self._box[0] + self._box[1]
        lefts.append(float(round(max(box_end + gaps[2], right))))
        self._lefts, self._widths = lefts, [*widths, self._box[1], consumers]
        place_lanes(self._lanes[0], lefts[0] + widths[0], lefts[1])
        place_lanes(self._lanes[1], lefts[1] + widths[1], lefts[2])
        place_lanes(self._lanes[2], box_end, lefts[3])

    def drawing(self) -> Drawing:
        nodes = [*self._service_nodes(), *self._exchange_nodes()]
        boxes = []
        for box in self._boxes:
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
        if self._boxes:
            yield from self._parts.heads(HEAD)
        for box in self._boxes if len(self._boxes) > 1 else ():
            if not box.consumers:
                text = "Without a consumer"
                yield Label(self._box[0] + 14, box.y - 6, text, "head", width_of(text, DETAIL))

    def _service_nodes(self) -> Iterator[DrawnNode]:
        for service in self._publishers:
            place = (self._lefts[0], self._publisher_tops[service.id], self._widths[0], PUBLISHER)
            yield self._service(service, place, "publisher")
        for service in self._consumers:
            place = (self._lefts[3], self._consumer_tops[service.id], self._widths[3], self._consumer_height)
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
        description = described(Card(node, self._graph, self._is_live))
        return DrawnNode(
            node.id, node.shape, node.name, x, y, width, height, tuple(labels), mark=(x + 11, line - 10.5),
            place=role, description=description,
        )  # fmt: skip

    def _exchange_nodes(self) -> Iterator[DrawnNode]:
        for card in self._exchanges:
            yield card.drawn(self._lefts[1], self._tops[card.node.id], self._widths[1])

    def _drawn(self, edge: FoldedEdge) -> Iterator[DrawnEdge]:
        if edge.kind is EdgeKind.DEAD_LETTER:
            return  # a text in the row of the queue
        if edge.kind is EdgeKind.CONSUME:
            yield from self._consumed(edge)
            return
        if edge.kind is EdgeKind.PUBLISH:
            start = (self._lefts[0] + self._widths[0], self._publisher_tops[edge.source] + PUBLISHER / 2)
            end = (self._lefts[1], self._middle(edge.target))
            points, trunk = _turned(start, end, self._lane_maps[0][edge.target].x), f"publish {edge.target}"
        else:
            trunk = f"{edge.source} {edge.kind.value}"
            points = self._routed(edge)
        yield DrawnEdge(edge.id, edge.kind.value, edge.source, edge.target, points, edge.keys, trunk)

    def _routed(self, edge: FoldedEdge) -> tuple[Point, ...]:
        lane = self._lane_maps[1][edge.source].x
        start = (self._lefts[1] + self._widths[1], self._middle(edge.source))
        if edge.target in self._tops:
            top = self._tops[edge.target]
            middle = self._lefts[1] + self._widths[1] / 2 + (16 if edge.kind is EdgeKind.ALTERNATE else 0)
            return (start, (lane, start[1]), (lane, top - ABOVE), (middle, top - ABOVE), (middle, top))
        row, y = next((row, y) for box in self._boxes for row, y in box.placed() if row.node.id == edge.target)
        return _turned(start, (self._box[0], y + row.level_of(edge.source)), lane)

    def _consumed(self, edge: FoldedEdge) -> Iterator[DrawnEdge]:
        box = next(one for one in self._boxes if any(row.node.id == edge.source for row in one.rows))
        row_level = next(y + row.height / 2 for row, y in box.placed() if row.node.id == edge.source)
        right = self._box[0] + self._box[1]
        end = (self._lefts[3], self._entries[id(box), edge.target])
        points = _turned((right, box.middle), end, self._lane_maps[2][id(box)].x)
        trunk, is_covered = f"box {self._boxes.index(box)}", edge.source != box.rows[0].node.id
        # The way of a queue starts at its row, and is hidden by the box up to the border of the box.
        whole = ((right - 5, row_level), (right - 5, box.middle), *points)
        yield DrawnEdge(edge.id, edge.kind.value, edge.source, edge.target, whole, edge.keys, trunk, is_covered)
        if self._is_live:
            yield from ways_back(edge, points, (7.0, 13.0))


def _turned(start: Point, end: Point, lane: float) -> tuple[Point, ...]:
    if abs(start[1] - end[1]) < 0.5:
        return (start, end)
    return (start, (lane, start[1]), (lane, end[1]), end)
