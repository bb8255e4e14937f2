"""Bindings of topology.yaml that RabbitMQ refuses because of the exchange's type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.document import Document
from runner.config.error_detail import Path
from runner.config.exchange_type import MATCH, destination_problem, key_problem, match_problem, routing_type
from runner.config.topology_file import PREDEFINED_EXCHANGES, Topology
from runner.config.value import MAX_NAME_BYTES


@dataclass(frozen=True)
class WrittenBinding:
    """One binding of the file, and where it is: the binding itself, and its key."""

    source: str
    destination: str
    key: str
    path: Path
    key_path: Path
    is_to_queue: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


def written_bindings(topology: Topology) -> Iterator[WrittenBinding]:
    """Yield all bindings of the file, those under ``bind`` first."""
    for name, queue in topology.queues.items():
        for source, keys in queue.bind.items():
            place: Path = ("queues", name, "bind", source)
            yield from (WrittenBinding(source, name, key, place, (*place, at)) for at, key in enumerate(keys))
    for index, one in enumerate(topology.bindings):
        place = ("bindings", index)
        is_to_queue = one.destination_type == "queue"
        key_path = (*place, "routing_key")
        yield WrittenBinding(one.source, one.destination, one.routing_key, place, key_path, is_to_queue, one.arguments)


def check_bindings(topology: Topology, document: Document) -> None:
    """Note each binding that its exchange would refuse."""
    types = {name: routing_type(one.type, one.arguments) for name, one in topology.exchanges.items()}
    types = {**PREDEFINED_EXCHANGES, **types}
    for one in written_bindings(topology):
        kind = types.get(one.source, "")
        place: Path = (*one.path, "arguments", MATCH)
        if (problem := match_problem(kind, one.arguments, document.shown(place))) is not None:
            document.fault(place, problem)
        for name in one.arguments:
            if len(name.encode()) > MAX_NAME_BYTES:
                text = f"a name that is too long, {len(name.encode())} bytes; allowed: {MAX_NAME_BYTES} (AMQP 0-9-1)"
                document.fault((*one.path, "arguments", name), text)
        if (problem := key_problem(kind, one.key)) is not None:
            document.fault(one.key_path, problem)
        is_known = not one.is_to_queue or one.destination in topology.queues
        queue_type = topology.type_of(one.destination) if one.is_to_queue and is_known else None
        if is_known and (problem := destination_problem(kind, one.destination, queue_type)) is not None:
            document.fault(one.path, problem)
