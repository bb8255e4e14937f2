"""The routes of recorded events through the exchanges of topology.yaml, with the reason for each hop."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from runner.config.project import Project
from runner.history.records import EventRow
from runner.messages import ATTEMPTS, EVENTS
from runner.topology.compile import compile_topology
from runner.topology.model import Binding, RetryDelays
from runner.topology.offline_routing import Hop, OfflineRouter


@dataclass(frozen=True)
class RoutedHop:
    """The way of a message from an exchange to a queue or to another exchange."""

    #: The exchange, and the kind and name of the destination.
    exchange: str
    kind: str
    destination: str
    #: A sentence.
    reason: str


class EventRoutes:
    """The routes of events, as the files of a project describe them today."""

    def __init__(self, project: Project) -> None:
        """``project`` contains the contracts of the services that record the event history."""
        objects = compile_topology(project.topology, project.consumed)
        self._router = OfflineRouter(objects)
        self.retry_delays: Mapping[str, RetryDelays] = objects.retry_delays
        recorders = {*project.recorders(EVENTS), *project.recorders(ATTEMPTS)}
        self._readers: dict[str, list[str]] = defaultdict(list)
        for name, service in project.config.services.items():
            for queue in service.consumes if name not in recorders else ():
                self._readers[queue].append(name)

    def copies(self, event: EventRow) -> list[tuple[str, str]]:
        """Return the consuming services and the queues that get a copy of an event.

        The queues of services that record the event history are omitted, because their attempts are not recorded.
        """
        queues = self._router.route(event.exchange, event.routing_key, event.headers).queues
        return [(service, queue) for queue in queues for service in self._readers[queue][:1]]

    def hops(self, event: EventRow, known: Collection[str] = ()) -> list[RoutedHop]:
        """Return each hop of an event. ``known`` contains the queues in which the event has been recorded."""
        route = self._router.route(event.exchange, event.routing_key, event.headers)
        found = [one for hop in route.hops for one in _hops(hop, event.routing_key)]
        reached = {one.destination for one in found if one.kind == "queue"}
        if event.exchange == "":
            reason = f"The default exchange routes the key {event.routing_key!r} to the queue with this name."
            found += [RoutedHop("", "queue", queue, reason) for queue in route.queues]
            reached |= set(route.queues)
        for queue in known:
            if queue not in reached:
                reason = f"{queue} got the message, but topology.yaml no longer contains the route."
                found.append(RoutedHop(event.exchange, "queue", queue, reason))
        return found


def _hops(hop: Hop, key: str) -> Iterator[RoutedHop]:
    matching: dict[tuple[str, str], list[Binding]] = defaultdict(list)
    for binding in hop.bindings:
        matching[binding.destination_type, binding.destination].append(binding)
    for (kind, name), bindings in matching.items():
        yield RoutedHop(hop.exchange, kind, name, _reason(hop, name, bindings, key))
    if not hop.bindings and hop.alternate is not None:
        reason = f"No binding of {hop.exchange} matches the key {key!r}, so its alternate exchange gets the message."
        yield RoutedHop(hop.exchange, "exchange", hop.alternate, reason)


def _reason(hop: Hop, name: str, bindings: list[Binding], key: str) -> str:
    match hop.behind:
        case "fanout":
            return f"{hop.exchange} is a fanout exchange, so {name} gets every message."
        case "headers":
            conditions = " or ".join(json.dumps(dict(one.arguments), ensure_ascii=False) for one in bindings)
            return f"The headers match the binding of {name}, {conditions}."
        case "direct" | "topic":
            patterns = " and ".join(f"{one.routing_key!r}" for one in bindings)
            noun, verb = ("binding", "matches") if len(bindings) == 1 else ("bindings", "match")
            return f"The {noun} {patterns} of {name} {verb} the key {key!r}."
        case _:
            return f"{hop.exchange} is of type {hop.behind}, which may choose {name}."
