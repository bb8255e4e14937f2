"""The ``route`` command, which shows the queues that a message would reach, without a broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.terminal import wrapped
from runner.config.document import plain_value
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.config.topology_file import PREDEFINED_EXCHANGES
from runner.config.value import MAX_NAME_BYTES, format_duration
from runner.topology.compile import compile_topology
from runner.topology.effective_settings import Policies
from runner.topology.model import Binding, Objects
from runner.topology.offline_routing import Hop, OfflineRouter, Route


@click.command(short_help="Show the queues that a message would reach.")
@click.argument("exchange")
@click.argument("key")
@click.option(
    "--header", "headers", metavar="NAME=VALUE", multiple=True,
    help="A header of the message. Can be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the route as one JSON object.")
@click.pass_obj
def route(folder: Path, exchange: str, key: str, headers: tuple[str, ...], as_json: bool) -> None:
    """Show the queues that a message published to EXCHANGE with routing key KEY would reach.

    Also shows the matching bindings, the consumers of each queue, and the path of the message if it fails. Needs no
    broker, but follows RabbitMQ's routing rules. An empty EXCHANGE is the default exchange. A header value gets the
    type that it would have in topology.yaml: 5 and 1.5 are numbers, true is a boolean, and "5" in double quotes is
    text. Exits with 1 if no queue would get the message, or if the broker would refuse the message.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    known = {*PREDEFINED_EXCHANGES, *project.topology.exchanges}
    if exchange and exchange not in known:
        raise click.BadParameter(f"unknown exchange {exchange!r}; {one_of(exchange, known)}", param_hint="EXCHANGE")
    given = dict(_header(one) for one in headers)
    refusal = _refusal(exchange, key, project)
    found = OfflineRouter(objects).route(exchange, key, given) if refusal is None else Route((), ())
    if as_json:
        content = {"refused": refusal, **_as_json(found, project, objects)}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        click.echo(f"published to {exchange or 'the default exchange'} with key {key!r}")
        if refusal is not None:
            click.echo(wrapped(f"the broker refuses it: {refusal}"))
        else:
            _show(found, project, objects)
    sys.exit(0 if found.queues else 1)


def _refusal(exchange: str, key: str, project: Project) -> str | None:
    """Return the reason why the broker would refuse a message and close the channel, or None if it would not."""
    if exchange in project.topology.exchanges and project.topology.exchanges[exchange].internal:
        return f"exchange {exchange!r} is internal and accepts only messages from other exchanges (403 ACCESS_REFUSED)"
    size = len(key.encode(errors="surrogateescape"))
    if size > MAX_NAME_BYTES:
        return f"the routing key has {size} bytes; allowed: up to {MAX_NAME_BYTES} (AMQP 0-9-1)"
    return None


def _header(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not is_given or not name:
        raise click.BadParameter(f"not a header, {text!r}; allowed: NAME=VALUE", param_hint="--header")
    if len(value) > 1 and value[0] == value[-1] == '"':
        return name, value[1:-1]
    return name, plain_value(value) if value else ""


def _show(found: Route, project: Project, objects: Objects) -> None:
    for hop in found.hops:
        delayed = f", then {hop.behind}" if hop.behind != hop.type else ""
        click.echo(f"  {hop.exchange} ({hop.type}{delayed})")
        for binding in hop.bindings:
            kind = "queue" if binding.destination_type == "queue" else "exchange"
            click.echo(wrapped(f"    {_condition(binding, hop)} -> {kind} {binding.destination}", 8))
        if not hop.bindings:
            rest = f"; the alternate exchange {hop.alternate} gets the message" if hop.alternate else ""
            click.echo(wrapped(f"    no binding matches{rest}", 8))
    if not found.queues:
        click.echo(wrapped("no queue gets the message, so RabbitMQ returns it to the publisher as unroutable"))
    for queue in found.queues:
        click.echo(wrapped(f"queue {queue}: {'; '.join(_fate(queue, project, objects))}"))


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


def _fate(queue: str, project: Project, objects: Objects) -> list[str]:
    readers = [name for name, service in project.config.services.items() if queue in service.consumes]
    words = [f"consumed by {', '.join(readers)}" if readers else "no service consumes it"]
    ladder = objects.retry_delays.get(queue)
    if ladder is not None and not readers and not ladder.steps:
        words.append(f"if rejected or delivered too often: dead-lettered to {ladder.dead_letter}")
        return words
    if ladder is not None:
        delays = ", ".join(format_duration(delay) for delay, _ in ladder.steps)
        words.append(f"failed: retried after {delays}" if delays else "failed: not retried")
        words.append(f"after the last attempt, or if rejected: dead-lettered to {ladder.dead_letter}")
        return words
    (settings,) = (Policies(objects.policies).settings_of(one) for one in objects.queues if one.name == queue)
    if "dead-letter-exchange" in settings:
        target = settings["dead-letter-exchange"] or "the default exchange"
        key = settings.get("dead-letter-routing-key")
        words.append(f"rejected: dead-lettered to {target}{'' if key is None else f' with key {key!r}'}")
    elif readers:
        words.append("rejected: dropped")
    return words


def _as_json(found: Route, project: Project, objects: Objects) -> dict[str, Any]:
    return {
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
            for hop in found.hops
        ],
        "queues": [
            {
                "name": queue,
                "services": [name for name, one in project.config.services.items() if queue in one.consumes],
                "retries": [delay for delay, _ in ladder.steps] if (ladder := objects.retry_delays.get(queue)) else [],
                "dead_letter": ladder.dead_letter if ladder else None,
            }
            for queue in found.queues
        ],
    }
