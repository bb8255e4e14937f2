"""The descriptions of nodes for screen readers."""

from __future__ import annotations

from runner.topology.graph import EdgeKind, Shape
from runner.topology.picture.folding import FoldedGraph, FoldedNode


def described(node: FoldedNode, graph: FoldedGraph) -> str:
    """Return the description of a node, such as "Queue work, bound to orders by order.#, consumed by payment"."""
    if node.shape is Shape.SERVICE:
        queues = [one.source.removeprefix("queue ") for one in graph.into(node.id, EdgeKind.CONSUME)]
        keys = [key for one in graph.out_of(node.id, EdgeKind.PUBLISH) for key in one.keys]
        parts = [f"consumes {_listed(queues)}"] if queues else []
        parts += [f"publishes {_listed(keys)}"] if keys else []
        return ", ".join([f"Service {node.name}", *parts])
    if node.shape is Shape.EXCHANGE:
        return f"Exchange {node.name}" + (f", type {node.note}" if node.note else "")
    bound = [
        f"bound to {edge.source.removeprefix('exchange ')} by {_listed(list(edge.keys))}"
        for edge in graph.bindings_of(node.id)
    ]
    consumers = [one.removeprefix("service ") for one in graph.consumers_of(node.id)]
    consumed = f"consumed by {_listed(consumers)}" if consumers else "no consumer"
    return ", ".join([f"Queue {node.name}", *bound, consumed])


def _listed(names: list[str]) -> str:
    shown = [name or "an empty key" for name in dict.fromkeys(names)]
    return " and ".join([*([", ".join(shown[:-1])] if shown[:-1] else []), shown[-1]])
