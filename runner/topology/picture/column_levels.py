"""The vertical positions of the nodes in columns, and the lanes of their edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean, median

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.card import Card
from runner.topology.picture.column_order import QueueBox, arranged, boxes_of, kept_order, levels_of, stack
from runner.topology.picture.drawing import Drawing
from runner.topology.picture.folding import FoldedEdge, FoldedGraph, FoldedNode
from runner.topology.picture.lane import Lane, order_lanes
from runner.topology.picture.spacing import nearest_free, settled, spread

#: The top of the first box, and the distance of an edge above the exchange to whose top the edge leads.
TOP, ABOVE = 36.0, 13.0
#: The heights of a publisher, and of a consumer without and with live figures.
PUBLISHER, CONSUMER, LIVE_CONSUMER = 32.0, 32.0, 48.0
#: The minimum distance of two publishers or consumers, and that of two exchanges.
#: An edge may lead to the top of an exchange.
SERVICE_GAP, EXCHANGE_GAP = 12.0, 26.0


class ColumnLevels:
    """The top of each publisher, exchange, box and consumer, and the lanes of the three gaps between them."""

    def __init__(self, graph: FoldedGraph, is_live: bool, previous: Drawing | None) -> None:
        self._graph, self._previous = graph, previous
        #: The height of a consumer.
        self.consumer_height = LIVE_CONSUMER if is_live else CONSUMER
        found = boxes_of(graph)
        #: The boxes of queues from top to bottom.
        self.boxes: list[QueueBox] = (
            arranged(graph, found, TOP, self.consumer_height) if previous is None else kept_order(found, previous)
        )
        stack(self.boxes, TOP, self.consumer_height)
        self._levels = levels_of(self.boxes)
        #: The exchanges, and the services in the first and in the last column.
        self.exchanges = [Card(one, graph, is_live) for one in graph.nodes if one.shape is Shape.EXCHANGE]
        services = [one for one in graph.nodes if one.shape is Shape.SERVICE]
        readers = {edge.target for edge in self._edges(EdgeKind.CONSUME)}
        writers = {edge.source for edge in self._edges(EdgeKind.PUBLISH)}
        self.consumers: list[FoldedNode] = [one for one in services if one.id in readers]
        self.publishers = [one for one in services if one.id in writers or one.id not in readers]
        self._set_exchanges()
        self._set_services()
        self._set_lanes()

    def _set_exchanges(self) -> None:
        widest = max((card.width for card in self.exchanges), default=0.0)
        self._heights = {card.node.id: card.height_at(widest) for card in self.exchanges}
        sizes = {card.node.id: self._heights[card.node.id] + card.foot for card in self.exchanges}
        wanted = {}
        for card in self.exchanges:
            name = card.node.id
            wanted[name] = (median(self._levels[name]) if self._levels[name] else 0.0) - self._heights[name] / 2
        for name in wanted:
            # An exchange without a queue stands beside the exchanges that route to it.
            near = [
                wanted[one.source] + 1 for one in self._edges(EdgeKind.BIND, EdgeKind.ALTERNATE) if one.target == name
            ]
            if not self._levels[name] and near:
                wanted[name] = fmean(near)
        #: The top of each exchange.
        self.tops = self._placed(wanted, sizes, EXCHANGE_GAP, "")

    def _set_services(self) -> None:
        wanted = {}
        for service in self.publishers:
            ends = [self.middle_of(one.target) for one in self._edges(EdgeKind.PUBLISH) if one.source == service.id]
            wanted[service.id] = (fmean(ends) if ends else max(self.tops.values(), default=TOP)) - PUBLISHER / 2
        sizes = {service.id: PUBLISHER for service in self.publishers}
        #: The tops of the services in the first and in the last column.
        self.publisher_tops = self._placed(wanted, sizes, SERVICE_GAP, "publisher")
        wanted = {}
        for service in self.consumers:
            wanted[service.id] = fmean(box.middle for box in self.boxes if service.id in box.consumers)
            wanted[service.id] -= self.consumer_height / 2
        order = sorted(wanted, key=lambda name: wanted[name])
        heights = [self.consumer_height for _ in order]
        found = settled([wanted[name] for name in order], heights, SERVICE_GAP, TOP)
        self.consumer_tops = dict(zip(order, found, strict=True))

    def _edges(self, *kinds: EdgeKind) -> Iterator[FoldedEdge]:
        return (edge for edge in self._graph.edges if edge.kind in kinds)

    def middle_of(self, exchange: str) -> float:
        """Return the vertical middle of an exchange."""
        return self.tops[exchange] + self._heights[exchange] / 2

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
        publishing = {card.node.id: Lane(card.node.id) for card in self.exchanges}
        for edge in self._edges(EdgeKind.PUBLISH):
            publishing[edge.target].left.add(self.publisher_tops[edge.source] + PUBLISHER / 2)
            publishing[edge.target].right.add(self.middle_of(edge.target))
        routing = {name: Lane(name, {self.middle_of(name)}, set(self._levels[name])) for name in self.tops}
        for edge in self._edges(EdgeKind.BIND, EdgeKind.ALTERNATE):
            if edge.target in self.tops:
                routing[edge.source].left.add(self.tops[edge.target] - ABOVE)
        #: The level at which the edge of a box enters a consumer.
        self.entries: dict[tuple[int, str], float] = {}
        consuming = {id(box): Lane(str(number), {box.middle}) for number, box in enumerate(self.boxes)}
        for name, top in self.consumer_tops.items():
            boxes = sorted((box for box in self.boxes if name in box.consumers), key=lambda box: box.middle)
            low, high = top + 8, top + self.consumer_height - 8
            wanted = [min(max(box.middle, low), high) for box in boxes]
            for box, level in zip(boxes, spread(wanted, 8.0, low, high), strict=True):
                self.entries[id(box), name] = level
                consuming[id(box)].right.add(level)
        #: The lanes before the exchanges by exchange, after the exchanges by exchange, and after the boxes by box.
        self.publishing, self.routing, self.consuming = publishing, routing, consuming
        #: The lanes of each gap from left to right.
        self.lanes = [
            order_lanes([lane for lane in lanes if lane.left or lane.right])
            for lanes in (publishing.values(), routing.values(), consuming.values())
        ]
