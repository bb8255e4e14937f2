"""The blocks of a chain. A block is a service with the exchanges that only this service publishes to, or one node."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.card import Card
from runner.topology.picture.drawing import Point
from runner.topology.picture.folding import FoldedEdge, FoldedGraph

#: The space between a service and its exchange, between two exchanges, and the indent of several exchanges.
STACK, EXCHANGE_GAP, INDENT = 44.0, 14.0, 20.0


@dataclass(eq=False)
class Block:
    """Nodes that stand below each other. The first is a service if there are several."""

    cards: list[Card]
    column: int = 0
    x: float = 0.0
    y: float = 0.0
    #: The width of the block's column.
    width: float = 0.0

    @property
    def name(self) -> str:
        """The id of the first node."""
        return self.cards[0].node.id

    @cached_property
    def needed_width(self) -> float:
        """The width that the texts need."""
        indent = self.indent
        return max(card.width + (indent if number else 0) for number, card in enumerate(self.cards))

    @property
    def indent(self) -> float:
        """The indent of the exchanges. A single exchange stands exactly below its service."""
        return INDENT if len(self.cards) > 2 else 0.0

    @cached_property
    def height(self) -> float:
        """The height with the badges of the last node. The width must not change after the first use."""
        last = self.cards[-1]
        return self.top_of(last.node.id) + last.height_at(self.width) + last.foot

    def top_of(self, node: str) -> float:
        """Return the distance of a node from the top of the block."""
        top = 0.0
        for number, card in enumerate(self.cards):
            if card.node.id == node:
                break
            top += card.height_at(self.width) + card.foot + (STACK if number == 0 else EXCHANGE_GAP)
        return top

    def middle_of(self, node: str) -> float:
        """Return the distance of a node's middle from the top of the block."""
        card = next(one for one in self.cards if one.node.id == node)
        return self.top_of(node) + card.height_at(self.width) / 2

    def inner_edge(self, exchange: str) -> tuple[Point, ...]:
        """Return the way from the service to one of its exchanges."""
        start = self.y + self.cards[0].height_at(self.width)
        if not self.indent:
            middle = self.x + self.width / 2
            return ((middle, start), (middle, self.y + self.top_of(exchange)))
        left, level = self.x + INDENT / 2, self.y + self.middle_of(exchange)
        return ((left, start), (left, level), (self.x + INDENT, level))


@dataclass(eq=False)
class Bar:
    """A horizontal part of edges that passes through columns in which no node of these edges stands."""

    edges: list[FoldedEdge]
    first: int
    last: int
    #: True if the edges lead to an earlier column, or to the same column.
    is_back: bool
    y: float = 0.0


@dataclass
class Blocks:
    """The blocks and bars of a chain, and the block of each node."""

    blocks: list[Block]
    bars: list[Bar] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.of = {card.node.id: block for block in self.blocks for card in block.cards}
        self.bar_of = {id(edge): bar for bar in self.bars for edge in bar.edges}

    def is_inner(self, edge: FoldedEdge) -> bool:
        """Return True if an edge connects a service with an exchange in the same block."""
        return edge.kind is EdgeKind.PUBLISH and self.of[edge.source] is self.of[edge.target]

    @property
    def last_column(self) -> int:
        """The number of the last column."""
        return max((block.column for block in self.blocks), default=0)


def blocks_of(graph: FoldedGraph, is_live: bool) -> Blocks:
    """Return the blocks of a graph in columns, with a bar for each edge that passes through columns."""
    owned: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        publishers = graph.publishers_of(node.id) if node.shape is Shape.EXCHANGE else []
        if len(publishers) == 1:
            owned[publishers[0]].append(node.id)
    inner = {exchange for exchanges in owned.values() for exchange in exchanges}
    blocks = []
    for node in graph.nodes:
        if node.id not in inner:
            # Each queue of a service has a place at its left side.
            ports = 14.0 * (sum(one.target == node.id for one in graph.edges) + 1)
            first = Card(node, graph, is_live, ports if node.shape is Shape.SERVICE else 0.0)
            blocks.append(Block([first, *(Card(graph.node(one), graph, is_live) for one in owned[node.id])]))
    found = Blocks(blocks)
    _place_in_columns(found, graph)
    return Blocks(blocks, _bars(found, graph))


def _place_in_columns(blocks: Blocks, graph: FoldedGraph) -> None:
    """Set each block's column to the length of the longest way to the block without cycles."""
    following: dict[Block, list[Block]] = {block: [] for block in blocks.blocks}
    for edge in graph.edges:
        source, target = blocks.of[edge.source], blocks.of[edge.target]
        # The way of dead letters often closes a cycle, and never determines the direction of the chain.
        if source is not target and target not in following[source] and edge.kind is not EdgeKind.DEAD_LETTER:
            following[source].append(target)
    entered = {target for targets in following.values() for target in targets}
    finished = _finished_order(sorted(following, key=lambda block: block in entered), following)
    position = {block: number for number, block in enumerate(reversed(finished))}
    for block in reversed(finished):
        for target in following[block]:
            if position[target] > position[block]:
                target.column = max(target.column, block.column + 1)
    for block in finished:
        ahead = [one.column for one in following[block] if position[one] > position[block]]
        if block not in entered and ahead:
            block.column = min(ahead) - 1
        elif block not in entered and block.cards[0].node.shape is Shape.QUEUE:
            block.column = min(1, blocks.last_column)


def _finished_order(starts: list[Block], following: dict[Block, list[Block]]) -> list[Block]:
    """Return the blocks in the order in which a depth-first search leaves them."""
    finished: list[Block] = []
    entered: set[Block] = set()
    for start in starts:
        stack = [(start, iter(following[start]))] if start not in entered else []
        entered.add(start)
        while stack:
            block, rest = stack[-1]
            target = next((one for one in rest if one not in entered), None)
            if target is None:
                finished.append(block)
                stack.pop()
            else:
                entered.add(target)
                stack.append((target, iter(following[target])))
    return finished


#: The number of edges from one node to one column from which the edges share a bar.
SHARED = 3


def _bars(blocks: Blocks, graph: FoldedGraph) -> list[Bar]:
    found: dict[tuple[str, int, bool, str], list[FoldedEdge]] = defaultdict(list)
    for edge in graph.edges:
        start, end = blocks.of[edge.source].column, blocks.of[edge.target].column
        if not blocks.is_inner(edge) and end != start + 1:
            found[edge.source, end, edge.kind is EdgeKind.DEAD_LETTER, ""].append(edge)
    bars = []
    for (source, end, *_), edges in found.items():
        start = blocks.of[source].column
        first, last, is_back = (start + 1, end - 1, False) if end > start else (end, start, True)
        parts = [edges] if len(edges) >= SHARED else [[one] for one in edges]
        bars += [Bar(part, first, last, is_back) for part in parts]
    return bars
