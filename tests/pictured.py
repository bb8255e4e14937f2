"""Topologies for tests of their pictures: shipped, public and generated topologies, and a shop with 60 queues."""

from __future__ import annotations

import json
import random
from typing import Any

from runner.config.config_file import ServiceSettings
from runner.config.project import load_project
from runner.config.topology_file import Topology
from runner.topology.compile import compile_topology
from runner.topology.definitions import from_definitions
from runner.topology.graph import Graph, graph_of
from tests.running import ROOT

#: A vhost of each public topology.
PUBLIC = {"alternate-exchange": "/", "openstack": "/openstack", "render-farm": "/"}
#: The services of a shop with 60 queues, and the key of each of their queues. The first word names the exchange.
SHOP = {
    "payment": "order.created order.cancelled order.amended order.returned customer.closed",
    "fraud": "order.created order.amended order.cancelled order.flagged payment.failed",
    "inventory": "order.created order.cancelled order.amended order.returned shipment.lost",
    "notification": "order.events order.cancelled payment.events payment.refunds shipment.delayed",
    "invoice": "order.cancelled payment.success payment.failed payment.refunded payment.dispute",
    "shipping": "payment.success payment.refunded stock.reserved stock.released stock.moved",
    "purchasing": "stock.low stock.empty stock.adjusted stock.expired stock.counted",
    "catalog": "stock.low stock.empty stock.adjusted stock.received shipment.returned",
    "tracking": "shipment.created shipment.scanned shipment.delayed shipment.delivered shipment.lost",
    "loyalty": "order.created shipment.delivered shipment.returned customer.registered customer.closed",
    "crm": "shipment.delayed customer.registered customer.address customer.consent customer.closed",
    "reporting": "customer.registered customer.address customer.consent.history.daily customer.closed customer.merged",
}
PUBLISHERS = {
    "order": ["order_api", "returns_api"], "payment": ["payment", "invoice"], "stock": ["inventory"],
    "shipment": ["shipping"], "customer": ["customer_api"],
}  # fmt: skip


def graph(topology: dict[str, Any], services: dict[str, Any]) -> Graph:
    """Return the graph of a topology.yaml and of the services in a config.yaml."""
    found = {name: ServiceSettings.model_validate(one) for name, one in services.items()}
    consumed = [queue for one in found.values() for queue in one.consumes]
    return graph_of(compile_topology(Topology.model_validate(topology), consumed), found)


def shipped() -> Graph:
    """Return the graph of the shipped files."""
    project = load_project(ROOT)
    return graph_of(compile_topology(project.topology, project.consumed), project.config.services)


def public(name: str) -> Graph:
    """Return the graph of a public topology."""
    data = json.loads((ROOT / "tests" / "definitions" / f"{name}.json").read_text())
    return graph_of(from_definitions(data, PUBLIC[name])[0], {})


def shop(without: str = "") -> Graph:
    """Return the graph of a shop with 60 queues, or with one queue less."""
    exchanges: dict[str, Any] = {f"{one}s.topic": {"type": "topic", "alternate_exchange": "lost"} for one in PUBLISHERS}
    queues: dict[str, Any] = {}
    services: dict[str, dict[str, Any]] = {}
    for one, names in PUBLISHERS.items():
        for name in names:
            services.setdefault(name, {})["publishes"] = {f"{one}s.topic": [f"{one}.created"]}
    for service, keys in SHOP.items():
        for key in keys.split():
            queue = f"{service}.{key}"
            if queue != without:
                queues[queue] = {"bind": {f"{key.partition('.')[0]}s.topic": [f"{key}.#"]}, "retry": ["1s", "5s"]}
                services.setdefault(service, {}).setdefault("consumes", []).append(queue)
    queues["lost.all"] = {"bind": {"lost": [""]}}
    return graph({"exchanges": exchanges | {"lost": {"type": "fanout"}}, "queues": queues}, services)


def generated(count: int, seed: int = 1) -> Graph:
    """Return the graph of a random topology with a number of queues."""
    rng = random.Random(f"{count} {seed}")
    words = ["order", "payment", "stock", "shipment", "customer", "invoice", "notification.of.changes", "日本語"]
    names = [f"{rng.choice(words)}.{rng.choice(words)}.{number}" for number in range(count)]
    exchanges: dict[str, Any] = {
        f"{rng.choice(words)}.{rng.choice(('topic', 'events'))}.{number}": {
            "type": rng.choice(("topic", "fanout", "direct"))
        }
        for number in range(1 + count // 8)
    }
    for name in list(exchanges)[1::3]:
        exchanges[name]["alternate_exchange"] = "unrouted"
    exchanges["unrouted"] = {"type": "fanout"}
    sources = [name for name in exchanges if name != "unrouted"]
    queues: dict[str, Any] = {"unrouted.all": {"bind": {"unrouted": [""]}}}
    for name in names:
        bind = {
            one: [f"{rng.choice(words)}.{rng.choice('*#')}" for _ in range(rng.choice((1, 1, 2, 5)))]
            for one in rng.sample(sources, min(len(sources), rng.choice((0, 1, 1, 1, 2))))
        }
        queues[name] = {"bind": bind, "retry": rng.choice(([], ["1s", "5s", "30s"]))}
    for name in names[3::7]:
        queues[name] = {"arguments": {"x-dead-letter-exchange": rng.choice(sources)}, "bind": queues[name]["bind"]}
    services: dict[str, Any] = {}
    for number in range(2 + count // 4):
        consumes = [name for name in names if rng.random() < 3 / count and "arguments" not in queues[name]]
        publishes = {
            one: ["created", "changed.{field}"] for one in rng.sample(sources, rng.choice((0, 1, min(2, len(sources)))))
        }
        services[f"service_{number}"] = {"consumes": consumes, "publishes": publishes}
    bindings = [
        {"source": one, "destination": other, "destination_type": "exchange", "routing_key": "audit.#"}
        for one, other in zip(sources[::4], sources[2::4], strict=False)
    ]
    return graph({"exchanges": exchanges, "queues": queues, "bindings": bindings}, services)
