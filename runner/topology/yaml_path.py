"""Where in topology.yaml something stands: its path of keys."""

from __future__ import annotations

from dataclasses import replace

from runner.config.cross_checks import GENERATED
from runner.config.error_detail import Path
from runner.config.topology_file import Topology
from runner.topology.model import Binding, Exchange, Policy, Queue


def path_of(thing: Exchange | Queue | Binding | Policy, topology: Topology) -> Path:
    """The path of what a person wrote; of what was made from the shorthand, that of its queue or exchange."""
    if isinstance(thing, Binding):
        return _path_of_binding(thing, topology)
    if isinstance(thing, Exchange):
        return ("exchanges", thing.name)
    if isinstance(thing, Queue):
        return _path_of_queue(thing.name, topology)
    if thing.name.startswith(GENERATED):
        kind, _, name = thing.name.removeprefix(GENERATED).partition(".")
        return ("exchanges", name) if kind == "exchange" else ("queues", name)
    return ("policies", thing.name)


def _path_of_queue(name: str, topology: Topology) -> Path:
    if name in topology.queues:
        return ("queues", name)
    if name in topology.renamed:
        return ("queues", topology.renamed[name], "formerly")
    for origin, settings in topology.queues.items():
        if name.startswith(f"{origin}.retry."):
            return ("queues", origin, "retry")
        if name == topology.dead_letter_of(origin):
            return ("queues", origin, "dead_letter") if settings.dead_letter else ("queues", origin)
    return ("queues",)


def _path_of_binding(binding: Binding, topology: Topology) -> Path:
    if binding.destination in topology.renamed and binding.destination_type == "queue":
        # As long as the queue is not renamed, it has the bindings of the new one.
        binding = replace(binding, destination=topology.renamed[binding.destination])
    queue = topology.queues.get(binding.destination) if binding.destination_type == "queue" else None
    keys = queue.bind.get(binding.source, []) if queue is not None else []
    if binding.routing_key in keys and not binding.arguments:
        return ("queues", binding.destination, "bind", binding.source, keys.index(binding.routing_key))
    for index, one in enumerate(topology.bindings):
        if (one.source, one.destination, one.destination_type, one.routing_key, one.arguments) == (
            binding.source,
            binding.destination,
            binding.destination_type,
            binding.routing_key,
            binding.arguments,
        ):
            return ("bindings", index)
    return ("bindings",)
