"""The layout of a chain, in which each service stands once and the way of a message is one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from runner.topology.graph import EdgeKind
from runner.topology.picture.block import Block, blocks_of
from runner.topology.picture.chain_levels import set_levels
from runner.topology.picture.chain_order import Leg, Place, legs_of, ordered, trunk_of
from runner.topology.picture.drawing import Drawing, DrawnEdge, DrawnNode, Form, Point
from runner.topology.picture.folding import FoldedEdge, FoldedGraph
from runner.topology.picture.lane import Lane, order_lanes, place_lanes, width_of_gap
from runner.topology.picture.spacing import spread
from runner.topology.picture.way_back import Side, ways_back

#: The margin around the chain, and the minimum and maximum gap between two columns.
MARGIN, LEAST_GAP, MOST_GAP = 12.0, 46.0, 88.0
#: The distance of two ports at the left side of a node.
PORT_GAP = 12.0


def chain_layout(graph: FoldedGraph, width: float, *, is_live: bool, previous: Drawing | None = None) -> Drawing:
    """Return the drawing of a graph as a chain, which is wider than ``width`` only if the names need more."""
    return _Chain(graph, width, is_live, previous).drawing()


def least_chain_width(graph: FoldedGraph, *, is_live: bool) -> float:
    """Return a width in pixels that the chain of a graph exceeds or equals."""
    columns: dict[int, float] = defaultdict(float)
    for block in blocks_of(graph, is_live).blocks:
        columns[block.column] = max(columns[block.column], block.needed_width)
    return sum(columns.values()) + LEAST_GAP * (len(columns) - 1) + 2 * MARGIN


class _Chain:
    def __init__(self, graph: FoldedGraph, width: float, is_live: bool, previous: Drawing | None) -> None:
        self._graph, self._width, self._is_live, self._previous = graph, width, is_live, previous
        self._blocks = blocks_of(graph, is_live)
        known = self._known()
        self._set_widths(known)
        self._legs = legs_of(self._blocks, graph)
        places: list[Place] = [*self._blocks.blocks, *self._blocks.bars]
        kept = sorted(known, key=lambda block: (known[block], block.column))
        order = ordered(places, self._legs, kept)
        set_levels(order, self._legs, known)
        self._ports = self._levels_of_ports()
        self._lanes = self._lanes_of_gaps()
        self._set_columns()

    def _known(self) -> dict[Block, float]:
        """Return the previous level of each block that the previous drawing contains."""
        found = {}
        for block in self._blocks.blocks if self._previous is not None else ():
            before = self._previous.find(block.name) if self._previous is not None else None
            if before is not None:
                found[block] = before.y - MARGIN
        return found

    def _set_widths(self, known: Mapping[Block, float]) -> None:
        columns: dict[int, float] = defaultdict(float)
        for block in self._blocks.blocks:
            columns[block.column] = max(columns[block.column], block.needed_width)
        self._kept = self._kept_columns(known)
        for column, (_, width) in self._kept.items():
            columns[column] = max(columns[column], width)
        for block in self._blocks.blocks:
            block.width = columns[block.column]
        self._widths = [columns[number] for number in range(self._blocks.last_column + 1)]

    def _kept_columns(self, known: Mapping[Block, float]) -> dict[int, tuple[float, float]]:
        """Return the previous left end and width of each column whose blocks stood in one column before."""
        found: dict[int, set[tuple[float, float]]] = defaultdict(set)
        for block in known:
            before = self._previous.find(block.name) if self._previous is not None else None
            if before is not None:
                found[block.column].add((before.x, before.width))
        kept = {column: next(iter(places)) for column, places in found.items() if len(places) == 1}
        lefts = [kept[column][0] for column in sorted(kept)]
        return kept if len(kept) == len(found) and lefts == sorted(set(lefts)) else {}

    def _levels_of_ports(self) -> dict[tuple[int, str], float]:
        """Return the level of each end of each leg. Edges that enter one node are in the order of their sources."""
        found: dict[tuple[int, str], float] = {}
        entering: dict[tuple[int, float, float], list[Leg]] = defaultdict(list)
        for leg in self._legs:
            found[id(leg), "start"] = leg.start.place.y + leg.start.middle
            found[id(leg), "end"] = leg.end.place.y + leg.end.middle
            if leg.end.high > leg.end.low:
                entering[id(leg.end.place), leg.end.low, leg.end.high].append(leg)
        for legs in entering.values():
            end = legs[0].end
            low, high = end.place.y + end.low, end.place.y + end.high
            legs.sort(key=lambda leg: found[id(leg), "start"])
            wanted = [min(max(found[id(leg), "start"], low), high) for leg in legs]
            for leg, level in zip(legs, spread(wanted, PORT_GAP, low, high), strict=True):
                found[id(leg), "end"] = level
        return found

    def _lanes_of_gaps(self) -> dict[int, list[Lane]]:
        lanes: dict[int, dict[str, Lane]] = defaultdict(dict)
        for leg in self._legs:
            lane = lanes[leg.gap].setdefault(leg.trunk, Lane(leg.trunk))
            (lane.left if leg.starts_left else lane.right).add(self._ports[id(leg), "start"])
            (lane.left if leg.ends_left else lane.right).add(self._ports[id(leg), "end"])
        self._lane_of = {(gap, lane.trunk): lane for gap, found in lanes.items() for lane in found.values()}
        return {gap: order_lanes(list(found.values())) for gap, found in lanes.items()}

    def _set_columns(self) -> None:
        """Set the horizontal positions of columns and lanes."""
        count = len(self._widths)
        counts = [len(self._lanes.get(number, ())) for number in range(count + 1)]
        gaps = [width_of_gap(turning, LEAST_GAP) for turning in counts[1:count]]
        outer = [width_of_gap(turning, MARGIN) for turning in (counts[0], counts[count])]
        spare = self._width - sum(outer) - sum(self._widths) - sum(gaps)
        if spare > 0 and gaps:
            share = spare / len(gaps)
            gaps = [max(gap, min(gap + share, MOST_GAP)) for gap in gaps]
        lefts, x = [], float(outer[0])
        for number, width in enumerate(self._widths):
            x = max(x, self._kept[number][0]) if number in self._kept else x
            lefts.append(float(round(x)))
            x += width + (gaps[number] if number < len(gaps) else outer[1])
        self._right = lefts[-1] + self._widths[-1] + outer[1] if lefts else 2 * MARGIN
        for block in self._blocks.blocks:
            block.x = lefts[block.column]
            block.y += MARGIN
        rights = [left + width for left, width in zip(lefts, self._widths, strict=True)]
        for gap, lanes in self._lanes.items():
            left = rights[gap - 1] if gap else 0.0
            right = lefts[gap] if gap < count else self._right + 8
            place_lanes(lanes, left, right)

    def drawing(self) -> Drawing:
        nodes = [node for block in self._blocks.blocks for node in _nodes_of(block)]
        by_id = {node.id: node for node in nodes}
        edges = [edge for one in self._graph.edges for edge in self._edges_of(one, by_id)]
        bottom = [block.y + block.height for block in self._blocks.blocks]
        bottom += [y for edge in edges for _, y in edge.points]
        columns = sorted({(node.x, node.width) for node in nodes})
        height = max(bottom, default=MARGIN) + MARGIN
        return Drawing(
            Form.CHAIN, self._right, height, tuple(nodes), tuple(edges), is_live=self._is_live, columns=tuple(columns)
        )

    def _edges_of(self, edge: FoldedEdge, nodes: Mapping[str, DrawnNode]) -> Iterator[DrawnEdge]:
        block = self._blocks.of[edge.source]
        if self._blocks.is_inner(edge):
            trunk = f"{edge.source} inner"
            yield DrawnEdge(
                edge.id, edge.kind.value, edge.source, edge.target, block.inner_edge(edge.target), edge.keys, trunk
            )
            return
        points = self._points(edge, nodes)
        yield DrawnEdge(edge.id, edge.kind.value, edge.source, edge.target, points, edge.keys, trunk_of(edge))
        if edge.kind is EdgeKind.CONSUME and self._is_live:
            yield from ways_back(edge, points, _side(nodes[edge.source]), _side(nodes[edge.target]))

    def _points(self, edge: FoldedEdge, nodes: Mapping[str, DrawnNode]) -> tuple[Point, ...]:
        source, target = nodes[edge.source], nodes[edge.target]
        legs = [leg for leg in self._legs if leg.edge is edge]
        points: list[Point] = [(source.x + source.width, self._level(legs[0], "start"))]
        for leg in legs:
            start, end = self._level(leg, "start"), self._level(leg, "end")
            if abs(start - end) > 0.5:
                x = self._lane_of[leg.gap, leg.trunk].x
                points += [(x, start), (x, end)]
        points.append((target.x, self._level(legs[-1], "end")))
        return tuple(points)

    def _level(self, leg: Leg, end: str) -> float:
        return self._ports[id(leg), end] + MARGIN


def _side(node: DrawnNode) -> Side:
    return Side(node.y, node.height)


def _nodes_of(block: Block) -> Iterator[DrawnNode]:
    for number, card in enumerate(block.cards):
        indent = block.indent if number else 0.0
        yield card.drawn(block.x + indent, block.y + block.top_of(card.node.id), block.width - indent)
