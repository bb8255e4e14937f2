"""The nodes and edges of a picture: the graph without the queues that are badges of another node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from runner.topology.graph import EdgeKind, Graph, GraphEdge, GraphNode, Shape


class BadgeKind(StrEnum):
    """The kind of a badge."""

    DEAD = "dead"
    RETRY = "retry"
    UNROUTED = "unrouted"


@dataclass(frozen=True)
class FoldedBadge:
    """The queues that a node shows as a badge, in the order in which messages reach them."""

    kind: BadgeKind
    queues: tuple[str, ...]
    #: The alternate exchange that routes messages to the queues.
    exchange: str = ""


@dataclass(frozen=True)
class FoldedNode:
    """A node of the picture."""

    id: str
    shape: Shape
    name: str
    #: The type of an exchange, or the retry delays of a queue.
    note: str = ""
    badges: tuple[FoldedBadge, ...] = ()


@dataclass(frozen=True)
class FoldedEdge:
    """All routes of one kind from one node to another, with their keys."""

    source: str
    target: str
    kind: EdgeKind
    keys: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The source and the target, which a page derives from the steps of messages."""
        return f"{self.source}>{self.target}"


@dataclass(frozen=True)
class FoldedGraph:
    """The nodes and edges of a picture."""

    nodes: tuple[FoldedNode, ...]
    edges: tuple[FoldedEdge, ...]

    @cached_property
    def _by_id(self) -> dict[str, FoldedNode]:
        return {one.id: one for one in self.nodes}

    @cached_property
    def _by_target(self) -> dict[tuple[str, EdgeKind], list[FoldedEdge]]:
        found: dict[tuple[str, EdgeKind], list[FoldedEdge]] = defaultdict(list)
        for edge in self.edges:
            found[edge.target, edge.kind].append(edge)
        return found

    @cached_property
    def _by_source(self) -> dict[tuple[str, EdgeKind], list[FoldedEdge]]:
        found: dict[tuple[str, EdgeKind], list[FoldedEdge]] = defaultdict(list)
        for edge in self.edges:
            found[edge.source, edge.kind].append(edge)
        return found

    def node(self, name: str) -> FoldedNode:
        """Return the node with an id."""
        return self._by_id[name]

    def into(self, node: str, kind: EdgeKind) -> list[FoldedEdge]:
        """Return the edges of a kind that lead to a node."""
        return self._by_target.get((node, kind), [])

    def out_of(self, node: str, kind: EdgeKind) -> list[FoldedEdge]:
        """Return the edges of a kind that start at a node."""
        return self._by_source.get((node, kind), [])

    def publishers_of(self, exchange: str) -> list[str]:
        """Return the services that publish to an exchange."""
        return [one.source for one in self.into(exchange, EdgeKind.PUBLISH)]

    def consumers_of(self, queue: str) -> list[str]:
        """Return the services that consume a queue."""
        return [one.target for one in self.out_of(queue, EdgeKind.CONSUME)]

    def bindings_of(self, node: str) -> list[FoldedEdge]:
        """Return the bindings that lead to a queue or exchange."""
        return self.into(node, EdgeKind.BIND)


def fold(graph: Graph) -> FoldedGraph:
    """Return the nodes and edges of the picture of a graph.

    These become badges of their owners, unless a service consumes them or other messages reach them:

    - dead-letter queues
    - alternate exchanges and their queues
    """
    into, out = _by_end(graph.edges, "target"), _by_end(graph.edges, "source")
    dead = _dead_letter_queues(graph, into, out)
    alternates = {
        node.id: queues
        for node in graph.nodes
        if node.shape is Shape.EXCHANGE and (queues := _unrouted_queues(node.id, into, out, dead))
    }
    hidden = {*dead, *alternates, *(queue for queues in alternates.values() for queue in queues)}
    nodes = tuple(
        FoldedNode(
            one.id,
            Shape.QUEUE if one.shape is Shape.DEAD_LETTER_QUEUE else one.shape,
            one.name,
            one.note,
            _badges(one, out, dead, alternates),
        )
        for one in graph.nodes
        if one.id not in hidden
    )
    keys: dict[tuple[str, str, EdgeKind], list[str]] = defaultdict(list)
    for edge in graph.edges:
        if not {edge.source, edge.target} & hidden:
            keys[edge.source, edge.target, edge.kind] += edge.keys
    return FoldedGraph(nodes, tuple(FoldedEdge(*ends, tuple(found)) for ends, found in keys.items()))


def _by_end(edges: Iterable[GraphEdge], end: str) -> dict[str, list[GraphEdge]]:
    found: dict[str, list[GraphEdge]] = defaultdict(list)
    for edge in edges:
        found[getattr(edge, end)].append(edge)
    return found


def _dead_letter_queues(
    graph: Graph, into: Mapping[str, list[GraphEdge]], out: Mapping[str, list[GraphEdge]]
) -> set[str]:
    """Return the queues that only dead letters reach, and that no message leaves except to another such queue."""
    found = {
        one.id
        for one in graph.nodes
        if one.shape in (Shape.QUEUE, Shape.DEAD_LETTER_QUEUE)
        and into.get(one.id)
        and all(edge.kind is EdgeKind.DEAD_LETTER for edge in into[one.id])
    }
    while True:
        # A queue in a cycle of dead letters has no owner outside the cycle, so the queue remains a node.
        owned: set[str] = set()
        waiting = [one.id for one in graph.nodes if one.id not in found]
        while waiting:
            reached = {edge.target for edge in out.get(waiting.pop(), ()) if edge.target in found} - owned
            owned |= reached
            waiting += sorted(reached)
        kept = {name for name in owned if all(edge.target in found for edge in out.get(name, ()))}
        if kept == found:
            return found
        found = kept


def _unrouted_queues(
    exchange: str, into: Mapping[str, list[GraphEdge]], out: Mapping[str, list[GraphEdge]], dead: set[str]
) -> list[str]:
    """Return the queues of an alternate exchange, or an empty list if the exchange is a node."""
    incoming, outgoing = into.get(exchange, []), out.get(exchange, [])
    if not incoming or any(edge.kind is not EdgeKind.ALTERNATE or edge.source == exchange for edge in incoming):
        return []
    queues = list(dict.fromkeys(edge.target for edge in outgoing))
    is_plain = all(edge.kind is EdgeKind.BIND and edge.target.startswith("queue ") for edge in outgoing) and all(
        all(edge.source == exchange for edge in into[queue]) and all(edge.target in dead for edge in out.get(queue, ()))
        for queue in queues
    )
    return queues if is_plain else []


def _badges(
    node: GraphNode, out: Mapping[str, list[GraphEdge]], dead: set[str], alternates: Mapping[str, list[str]]
) -> tuple[FoldedBadge, ...]:
    found = []
    targets = [edge.target for edge in out.get(node.id, ())]
    if queues := _following([one for one in targets if one in dead], out):
        found.append(FoldedBadge(BadgeKind.DEAD, tuple(one.removeprefix("queue ") for one in queues)))
    if node.shape in (Shape.QUEUE, Shape.DEAD_LETTER_QUEUE) and node.note:
        found.append(FoldedBadge(BadgeKind.RETRY, ()))
    for target in targets:
        if target in alternates:
            queues = _following(alternates[target], out)
            names = tuple(one.removeprefix("queue ") for one in queues)
            found.append(FoldedBadge(BadgeKind.UNROUTED, names, target.removeprefix("exchange ")))
    return tuple(found)


def _following(queues: list[str], out: Mapping[str, list[GraphEdge]]) -> list[str]:
    """Return queues and the queues that get their dead letters."""
    found = list(dict.fromkeys(queues))
    for name in found:
        found += [edge.target for edge in out.get(name, ()) if edge.target not in found]
    return found
