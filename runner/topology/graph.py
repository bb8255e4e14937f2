"""The topology as a graph of services, exchanges and queues, in Mermaid and Graphviz (DOT) format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner.config.config_file import ServiceSettings
from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.config.value import format_duration
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Objects
from runner.topology.offline_routing import alternates_of


class Shape(StrEnum):
    """The kind of a node in the graph."""

    SERVICE = "service"
    EXCHANGE = "exchange"
    QUEUE = "queue"
    DEAD_LETTER_QUEUE = "dead_letter_queue"


@dataclass(frozen=True)
class GraphNode:
    """A service, exchange or queue in the graph. ``note`` is a second line of text in the node."""

    id: str
    shape: Shape
    name: str
    note: str = ""


class EdgeKind(StrEnum):
    """The kind of a route in the graph."""

    PUBLISH = "publish"
    CONSUME = "consume"
    BIND = "bind"
    ALTERNATE = "alternate"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True)
class GraphEdge:
    """A route from one node to another."""

    source: str
    target: str
    kind: EdgeKind
    label: str = ""
    #: The routing keys that a service publishes, or the key or the arguments of a binding.
    keys: tuple[str, ...] = ()

    @property
    def is_dashed(self) -> bool:
        """True if only failed or unrouted messages use the route."""
        return self.kind in (EdgeKind.ALTERNATE, EdgeKind.DEAD_LETTER)


@dataclass(frozen=True)
class Graph:
    """The nodes and edges of a topology."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


def graph_of(objects: Objects, services: Mapping[str, ServiceSettings]) -> Graph:
    """Return the graph of a topology. Retry queues appear only as a line in the node of their queue."""
    waiting = {name for retry in objects.retry_delays.values() for _, name in retry.steps}
    dead_letter_queues = {retry.dead_letter for retry in objects.retry_delays.values()}
    # A service without queues and events, such as the dashboard, is no part of the topology.
    nodes = [
        GraphNode(f"service {name}", Shape.SERVICE, name)
        for name, one in services.items()
        if one.publishes or one.consumes
    ]
    nodes += [GraphNode(f"exchange {one.name}", Shape.EXCHANGE, one.name, one.type) for one in objects.exchanges]
    nodes += [
        GraphNode(
            f"queue {one.name}",
            Shape.DEAD_LETTER_QUEUE if one.name in dead_letter_queues else Shape.QUEUE,
            one.name,
            _note(one.name, objects),
        )
        for one in objects.queues
        if one.name not in waiting
    ]
    known = {node.id for node in nodes}
    edges = {(edge.source, edge.target, edge.label): edge for edge in _edges(objects, services)}
    # A predefined exchange is a node only if an edge leads to or from the exchange.
    for edge in edges.values():
        for end in (edge.source, edge.target):
            if end not in known and end.startswith("exchange "):
                known.add(end)
                name = end.removeprefix("exchange ")
                nodes.append(GraphNode(end, Shape.EXCHANGE, name, PREDEFINED_EXCHANGES.get(name, "")))
    return Graph(tuple(nodes), tuple(one for one in edges.values() if {one.source, one.target} <= known))


def _note(queue: str, objects: Objects) -> str:
    retry = objects.retry_delays.get(queue)
    delays = [format_duration(delay) for delay, _ in retry.steps] if retry is not None else []
    return f"retry {' '.join(delays)}" if delays else ""


def _edges(objects: Objects, services: Mapping[str, ServiceSettings]) -> Iterator[GraphEdge]:
    for name, service in services.items():
        for exchange, templates in service.publishes.items():
            keys = tuple(templates)
            yield GraphEdge(f"service {name}", f"exchange {exchange}", EdgeKind.PUBLISH, ", ".join(keys), keys)
        for queue in service.consumes:
            yield GraphEdge(f"queue {queue}", f"service {name}", EdgeKind.CONSUME)
    for binding in objects.bindings:
        target = f"{binding.destination_type} {binding.destination}"
        label = _label(binding)
        yield GraphEdge(f"exchange {binding.source}", target, EdgeKind.BIND, label, (label,))
    for source, alternate in alternates_of(objects).items():
        yield GraphEdge(f"exchange {source}", f"exchange {alternate}", EdgeKind.ALTERNATE, "no binding matches")
    consumed = {queue for service in services.values() for queue in service.consumes}
    for queue, retry in objects.retry_delays.items():
        label = "failed" if queue in consumed or retry.steps else "dead letters"
        yield GraphEdge(f"queue {queue}", f"queue {retry.dead_letter}", EdgeKind.DEAD_LETTER, label)
    policies = Policies(objects.policies)
    wait_queues = {name for retry in objects.retry_delays.values() for _, name in retry.steps}
    for one in objects.queues:
        settings = policies.settings_of(one)
        dead_letters = settings.get("dead-letter-exchange")
        if dead_letters is None or one.name in objects.retry_delays or one.name in wait_queues:
            continue
        target = f"exchange {dead_letters}" if dead_letters else f"queue {settings.get('dead-letter-routing-key', '')}"
        yield GraphEdge(f"queue {one.name}", target, EdgeKind.DEAD_LETTER, "dead letters")


def _label(binding: Binding) -> str:
    if binding.arguments:
        return ", ".join(f"{name}={json.dumps(value)}" for name, value in binding.arguments.items())
    return binding.routing_key


def mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid diagram, which GitHub and many editors can render."""
    brackets = {
        Shape.SERVICE: ("([", "])"),
        Shape.EXCHANGE: ("{{", "}}"),
        Shape.QUEUE: ("[(", ")]"),
        Shape.DEAD_LETTER_QUEUE: ("[(", ")]"),
    }
    ids = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node in graph.nodes:
        before, after = brackets[node.shape]
        note = f"<br/><small>{_entities(node.note)}</small>" if node.note else ""
        lines.append(f'  {ids[node.id]}{before}"{_entities(node.name)}{note}"{after}:::{node.shape.value}')
    for edge in graph.edges:
        arrow = "-.->" if edge.is_dashed else "-->"
        label = f'|"{_entities(edge.label)}"|' if edge.label else ""
        lines.append(f"  {ids[edge.source]} {arrow}{label} {ids[edge.target]}")
    for shape, (fill, stroke) in FILLS.items():
        lines.append(f"  classDef {shape.value} fill:{fill},stroke:{stroke},color:#1f2328")
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """Return the graph in Graphviz's DOT language."""
    shapes = {
        Shape.SERVICE: "box",
        Shape.EXCHANGE: "hexagon",
        Shape.QUEUE: "cylinder",
        Shape.DEAD_LETTER_QUEUE: "cylinder",
    }
    lines = ["digraph topology {", "  rankdir=LR;", '  node [style="filled,rounded", fontname="sans-serif"];']
    lines.append('  edge [fontname="sans-serif", fontsize=10];')
    for node in graph.nodes:
        fill, stroke = FILLS[node.shape]
        style = f'shape={shapes[node.shape]}, fillcolor="{fill}", color="{stroke}"'
        note = f"\n{node.note}" if node.note else ""
        lines.append(f"  {json.dumps(node.id)} [label={json.dumps(node.name + note)}, {style}];")
    for edge in graph.edges:
        style = ", style=dashed" if edge.is_dashed else ""
        ends = f"{json.dumps(edge.source)} -> {json.dumps(edge.target)}"
        lines.append(f"  {ends} [label={json.dumps(edge.label)}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


#: The fill and border colours of each shape. Black text is readable on every fill colour.
FILLS = {
    Shape.SERVICE: ("#dbeafe", "#2563eb"),
    Shape.EXCHANGE: ("#fef3c7", "#d97706"),
    Shape.QUEUE: ("#dcfce7", "#16a34a"),
    Shape.DEAD_LETTER_QUEUE: ("#fee2e2", "#dc2626"),
}


def _entities(text: str) -> str:
    # A quotation mark would end a Mermaid label. Mermaid's numeric entities start with # instead of &#.
    return "".join(one if one.isalnum() or one in " ._-*,=:" else f"#{ord(one)};" for one in text)
