"""The vertical order of the blocks and bars of a chain, with few crossings of edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.block import Bar, Block, Blocks
from runner.topology.picture.folding import FoldedEdge, FoldedGraph

#: A block or a bar, which has one place in the vertical order of all columns.
Place = Block | Bar
#: The distance of the highest and of the lowest port of a node from its top and bottom.
PORT_MARGIN = 10.0
#: The cost of a crossing beside that of one place of distance.
CROSSING = 40
#: The maximum number of comparisons of two legs, which bounds the time for a chain with many nodes.
MOST_COMPARISONS = 1_500_000


@dataclass(frozen=True)
class Port:
    """The part of a block or bar at which an edge may start or end, as distances from its top."""

    place: Place
    low: float = 0.0
    high: float = 0.0

    @property
    def middle(self) -> float:
        """The middle of the part."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class Leg:
    """The part of an edge in the gap at the left of a column. A way back turns in the gap, and has both ends there."""

    gap: int
    start: Port
    end: Port
    edge: FoldedEdge
    #: True if an end is at the left side of the gap.
    starts_left: bool = True
    ends_left: bool = False

    @property
    def trunk(self) -> str:
        """The name that legs with common lines share."""
        return trunk_of(self.edge)


def trunk_of(edge: FoldedEdge) -> str:
    """Return the name that the edges from one node share. Dashed edges have their own lines."""
    return f"{edge.source} {edge.kind.value}"


def port_out(blocks: Blocks, edge: FoldedEdge) -> Port:
    """Return the port from which an edge starts: the middle of the node, or a place below it for dead letters."""
    block = blocks.of[edge.source]
    shift = {EdgeKind.DEAD_LETTER: 16.0, EdgeKind.ALTERNATE: 8.0}.get(edge.kind, 0.0)
    is_service = edge.kind is EdgeKind.PUBLISH
    level = block.top_of(edge.source) + 18 if is_service else block.middle_of(edge.source) + shift
    return Port(block, level, level)


def port_in(blocks: Blocks, edge: FoldedEdge) -> Port:
    """Return the port at which an edge ends: the left side of a service or queue, or the tip of an exchange."""
    block = blocks.of[edge.target]
    card = next(one for one in block.cards if one.node.id == edge.target)
    if card.node.shape is Shape.EXCHANGE:
        level = block.middle_of(edge.target)
        return Port(block, level, level)
    top = block.top_of(edge.target)
    return Port(block, top + PORT_MARGIN, top + card.height_at(block.width) - PORT_MARGIN)


def legs_of(blocks: Blocks, graph: FoldedGraph) -> list[Leg]:
    """Return the legs of all edges except those inside a block, in the order of the edges."""
    legs = []
    for edge in graph.edges:
        if blocks.is_inner(edge):
            continue
        start, end = port_out(blocks, edge), port_in(blocks, edge)
        bar = blocks.bar_of.get(id(edge))
        if bar is None:
            legs.append(Leg(blocks.of[edge.target].column, start, end, edge))
        elif bar.is_back:
            legs.append(Leg(bar.last + 1, start, Port(bar), edge, ends_left=True))
            legs.append(Leg(bar.first, Port(bar), end, edge, starts_left=False))
        else:
            legs.append(Leg(bar.first, start, Port(bar), edge))
            legs.append(Leg(bar.last + 1, Port(bar), end, edge))
    return legs


def ordered(places: Sequence[Place], legs: Sequence[Leg], known: Sequence[Place] = ()) -> list[Place]:
    """Return places in an order with few crossings and short edges. The order of ``known`` places does not change."""
    order = list(known)
    order += [place for place in _from_first(places, legs) if place not in set(known)]
    crossing = _Crossings(legs)
    best, left = crossing.cost(order), MOST_COMPARISONS // (crossing.comparisons + 1)
    improved = True
    while improved:
        improved = False
        for place in [one for one in order if one not in set(known)]:
            rest = [one for one in order if one is not place]
            for position in range(len(order)):
                left -= 1
                if left < 0:
                    return order
                trial = [*rest[:position], place, *rest[position:]]
                cost = crossing.cost(trial)
                if cost < best:
                    best, order, improved = cost, trial, True
    return order


def _from_first(places: Sequence[Place], legs: Sequence[Leg]) -> list[Place]:
    """Return places in the order in which a depth-first walk from the first column meets them."""
    following: dict[Place, list[Place]] = defaultdict(list)
    for leg in legs:
        following[leg.start.place].append(leg.end.place)
    found: dict[Place, None] = {}
    starts = sorted(places, key=lambda one: one.column if isinstance(one, Block) else one.first)
    for start in starts:
        stack = [start]
        while stack:
            place = stack.pop()
            if place not in found:
                found[place] = None
                stack += reversed(following[place])
    return list(found)


class _Crossings:
    """The pairs of legs that may cross, which are the legs of different trunks in one gap."""

    def __init__(self, legs: Sequence[Leg]) -> None:
        self._legs = [(leg.start.place, leg.start.middle / 4000, leg.end.place, leg.end.middle / 4000) for leg in legs]
        trunks = [leg.trunk for leg in legs]
        gaps: dict[int, list[int]] = defaultdict(list)
        for number, leg in enumerate(legs):
            gaps[leg.gap].append(number)
        self._pairs: list[tuple[int, int]] = []
        self._turns: list[tuple[int, int, bool]] = []
        for numbers in gaps.values():
            for at, one in enumerate(numbers):
                for other in numbers[:at]:
                    if trunks[one] != trunks[other]:
                        self._add(legs, one, other)

    def _add(self, legs: Sequence[Leg], one: int, other: int) -> None:
        turns = [legs[number].starts_left == legs[number].ends_left for number in (one, other)]
        if not any(turns):
            self._pairs.append((one, other))
        elif not all(turns):
            # A leg that turns in the gap crosses the legs between its ends.
            turn, through = (one, other) if turns[0] else (other, one)
            self._turns.append((turn, through, legs[turn].starts_left == legs[through].starts_left))

    @property
    def comparisons(self) -> int:
        """The number of comparisons of two legs that the cost of an order needs."""
        return len(self._pairs) + len(self._turns) + len(self._legs)

    def cost(self, order: Sequence[Place]) -> float:
        """Return the cost of the crossings and of the lengths of the edges."""
        rank = {place: number for number, place in enumerate(order)}
        starts = [rank[start] + above for start, above, _, _ in self._legs]
        ends = [rank[end] + above for _, _, end, above in self._legs]
        crossings = 0
        for one, other in self._pairs:
            if (starts[one] < starts[other]) != (ends[one] < ends[other]) and ends[one] != ends[other]:
                crossings += 1
        for turn, through, is_start in self._turns:
            level = starts[through] if is_start else ends[through]
            low, high = sorted((starts[turn], ends[turn]))
            crossings += low < level < high
        return CROSSING * crossings + sum(abs(one - other) for one, other in zip(starts, ends, strict=True))
