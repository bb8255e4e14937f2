"""The report of the route of one message, for the ``route`` command and for the dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.config.document import plain_value
from runner.config.error_detail import unknown
from runner.config.project import Project
from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.config.value import MAX_NAME_BYTES, format_duration
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Objects
from runner.topology.offline_routing import Hop, OfflineRouter, Route


class InvalidMessage(ValueError):
    """The error for an unknown exchange or an invalid header. ``part`` is the name of the argument."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part


@dataclass(frozen=True)
class RouteReport:
    """The route of a message with its bindings, its queues, and the path of the message if it fails."""

    exchange: str
    key: str
    #: The reason why the broker would refuse the message and close the channel, or None if it would not.
    refusal: str | None
    route: Route
    project: Project
    objects: Objects

    @property
    def edges(self) -> list[str]:
        """The edges of the picture that the message uses, such as ``exchange orders.topic>queue audit.events``."""
        return edges_of(self.route.hops)

    @property
    def bindings(self) -> list[tuple[str, str, str]]:
        """The matching bindings, each as the ids of both nodes and the key in the binding."""
        return [
            (f"exchange {hop.exchange}", f"{one.destination_type} {one.destination}", one.routing_key)
            for hop in self.route.hops
            for one in hop.bindings
        ]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report."""
        yield f"published to {self.exchange or 'the default exchange'} with key {self.key!r}"
        if self.refusal is not None:
            yield f"the broker refuses it: {self.refusal}"
            return
        for hop in self.route.hops:
            delayed = f", then {hop.behind}" if hop.behind != hop.type else ""
            yield f"  {hop.exchange} ({hop.type}{delayed})"
            for binding in hop.bindings:
                kind = "queue" if binding.destination_type == "queue" else "exchange"
                yield f"    {_condition(binding, hop)} -> {kind} {binding.destination}"
            if not hop.bindings:
                rest = f"; the alternate exchange {hop.alternate} gets the message" if hop.alternate else ""
                yield f"    no binding matches{rest}"
        if not self.route.queues:
            yield "no queue gets the message, so RabbitMQ returns it to the publisher as unroutable"
        for queue in self.route.queues:
            yield f"queue {queue}: {'; '.join(self.fate(queue))}"

    def fate(self, queue: str) -> list[str]:
        """Return the consumers of a queue, and the path of a message that fails there."""
        readers = self._consumers_of(queue)
        words = [f"consumed by {', '.join(readers)}" if readers else "no service consumes it"]
        retry = self.objects.retry_delays.get(queue)
        if retry is not None and not readers and not retry.steps:
            words.append(f"if rejected or delivered too often: dead-lettered to {retry.dead_letter}")
            return words
        if retry is not None:
            delays = ", ".join(format_duration(delay) for delay, _ in retry.steps)
            words.append(f"failed: retried after {delays}" if delays else "failed: not retried")
            words.append(f"after the last attempt, or if rejected: dead-lettered to {retry.dead_letter}")
            return words
        policies = Policies(self.objects.policies)
        (settings,) = (policies.settings_of(one) for one in self.objects.queues if one.name == queue)
        if "dead-letter-exchange" in settings:
            target = settings["dead-letter-exchange"] or "the default exchange"
            key = settings.get("dead-letter-routing-key")
            words.append(f"rejected: dead-lettered to {target}{'' if key is None else f' with key {key!r}'}")
        elif readers:
            words.append("rejected: dropped")
        return words

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "refused": self.refusal,
            "hops": [
                {
                    "exchange": hop.exchange,
                    "type": hop.type,
                    "routes_by": hop.behind,
                    "alternate": hop.alternate,
                    "bindings": [
                        {
                            "destination": one.destination,
                            "destination_type": one.destination_type,
                            "routing_key": one.routing_key,
                            "arguments": dict(one.arguments),
                        }
                        for one in hop.bindings
                    ],
                }
                for hop in self.route.hops
            ],
            "queues": [
                {
                    "name": queue,
                    "services": self._consumers_of(queue),
                    "retries": [delay for delay, _ in retry.steps]
                    if (retry := self.objects.retry_delays.get(queue))
                    else [],
                    "dead_letter": retry.dead_letter if retry else None,
                }
                for queue in self.route.queues
            ],
        }

    def _consumers_of(self, queue: str) -> list[str]:
        return [name for name, one in self.project.config.services.items() if queue in one.consumes]


def edges_of(hops: Iterable[Hop]) -> list[str]:
    """Return the edges that a message uses at these exchanges."""
    found: dict[str, None] = {}
    for hop in hops:
        for one in hop.bindings:
            found[f"exchange {hop.exchange}>{one.destination_type} {one.destination}"] = None
        if hop.alternate is not None:
            found[f"exchange {hop.exchange}>exchange {hop.alternate}"] = None
    return list(found)


def report_route(
    project: Project, objects: Objects, exchange: str, key: str, headers: Mapping[str, Any]
) -> RouteReport:
    """Return the route of a message. ``objects`` is the compiled topology of the project.

    Raises InvalidMessage if the exchange does not exist.
    """
    known = {*PREDEFINED_EXCHANGES, *project.topology.exchanges}
    if exchange and exchange not in known:
        raise InvalidMessage("EXCHANGE", unknown("exchange", exchange, known))
    refusal = _refusal(exchange, key, project)
    found = OfflineRouter(objects).route(exchange, key, headers) if refusal is None else Route((), ())
    return RouteReport(exchange, key, refusal, found, project, objects)


def parse_header(text: str) -> tuple[str, Any]:
    """Return the name and the value of a header such as ``price=1.5``. Raises InvalidMessage."""
    name, is_given, value = text.partition("=")
    if not is_given or not name:
        raise InvalidMessage("--header", f"not a header, {text!r}; allowed: NAME=VALUE")
    if len(value) > 1 and value[0] == value[-1] == '"':
        return name, value[1:-1]
    return name, plain_value(value) if value else ""


def _refusal(exchange: str, key: str, project: Project) -> str | None:
    if exchange in project.topology.exchanges and project.topology.exchanges[exchange].internal:
        return f"exchange {exchange!r} is internal and accepts only messages from other exchanges (403 ACCESS_REFUSED)"
    size = len(key.encode(errors="surrogateescape"))
    if size > MAX_NAME_BYTES:
        return f"the routing key has {size} bytes; allowed: up to {MAX_NAME_BYTES} (AMQP 0-9-1)"
    return None


def _condition(binding: Binding, hop: Hop) -> str:
    match hop.behind:
        case "fanout":
            return "every message"
        case "headers":
            return f"headers {json.dumps(dict(binding.arguments), ensure_ascii=False)}"
        case "direct" | "topic":
            return f"{binding.routing_key!r}"
        case _:
            return f"perhaps, {hop.behind} decides"
