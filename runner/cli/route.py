"""``route``: where a message would go."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runner.config.fault import one_of
from runner.config.project import Project, load_project
from runner.config.topology import PREDEFINED_EXCHANGES
from runner.config.value import format_duration
from runner.topology.compile import compile_topology
from runner.topology.effect import Policies
from runner.topology.match import Hop, Route, Router
from runner.topology.model import Binding, Objects


@click.command(short_help="Show where a message would go.")
@click.argument("exchange")
@click.argument("key")
@click.option("--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the way as one JSON object.")
@click.pass_obj
def route(folder: Path, exchange: str, key: str, headers: tuple[str, ...], as_json: bool) -> None:
    """Show where a message with routing KEY goes that is published to EXCHANGE.

    Which bindings take it, which queues get it, which services read them, and where it goes when it is rejected.
    Needs no broker: the rules are RabbitMQ's. "" is the default exchange. A header's value is a number, true or false
    where it looks like one. Exits with 1 when no queue gets it.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    known = {*PREDEFINED_EXCHANGES, *project.topology.exchanges}
    if exchange and exchange not in known:
        raise click.BadParameter(f"unknown exchange {exchange!r}; {one_of(exchange, known)}", param_hint="EXCHANGE")
    found = Router(objects).route(exchange, key, dict(_header(one) for one in headers))
    if as_json:
        click.echo(json.dumps(_as_json(found, project, objects), indent=2, ensure_ascii=False))
    else:
        _show(found, exchange, key, project, objects)
    sys.exit(0 if found.queues else 1)


def _header(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not is_given or not name:
        raise click.BadParameter(f"not a header, {text!r}; allowed: NAME=VALUE", param_hint="--header")
    words: Mapping[str, Any] = {"true": True, "false": False}
    try:
        return name, words[value] if value in words else int(value)
    except ValueError:
        return name, value


def _show(found: Route, exchange: str, key: str, project: Project, objects: Objects) -> None:
    click.echo(f"published to {exchange or 'the default exchange'} with key {key!r}")
    for hop in found.hops:
        click.echo(f"  {hop.exchange} ({hop.type})")
        for binding in hop.bindings:
            kind = "queue" if binding.destination_type == "queue" else "exchange"
            click.echo(f"    {_condition(binding, hop)} -> {kind} {binding.destination}")
        if not hop.bindings:
            rest = f": on to its alternate exchange {hop.alternate}" if hop.alternate else ": it goes no further"
            click.echo(f"    no binding takes it{rest}")
    if not found.queues:
        click.echo("no queue gets it: it is returned to its publisher as unroutable")
    for queue in found.queues:
        click.echo(f"queue {queue}: {'; '.join(_fate(queue, project, objects))}")


def _condition(binding: Binding, hop: Hop) -> str:
    match hop.type:
        case "fanout":
            return "every message"
        case "headers":
            return f"headers {json.dumps(dict(binding.arguments), ensure_ascii=False)}"
        case "direct" | "topic":
            return f"{binding.routing_key!r}"
        case _:
            return f"perhaps, as {hop.type} chooses"


def _fate(queue: str, project: Project, objects: Objects) -> list[str]:
    readers = [name for name, service in project.config.services.items() if queue in service.consumes]
    words = [f"read by {', '.join(readers)}" if readers else "read by no service"]
    ladder = objects.ladders.get(queue)
    if ladder is not None and not readers and not ladder.steps:
        words.append(f"when it is rejected or delivered too often, parked in {ladder.dead_letter}")
        return words
    if ladder is not None:
        delays = ", ".join(format_duration(delay) for delay, _ in ladder.steps)
        words.append(f"when it fails, tried again after {delays}" if delays else "when it fails, not tried again")
        words.append(f"then, or when it is rejected, parked in {ladder.dead_letter}")
        return words
    (settings,) = (Policies(objects.policies).settings_of(one) for one in objects.queues if one.name == queue)
    if "dead-letter-exchange" in settings:
        target = settings["dead-letter-exchange"] or "the default exchange"
        key = settings.get("dead-letter-routing-key")
        words.append(f"rejected, it goes to {target}{'' if key is None else f' with key {key!r}'}")
    elif readers:
        words.append("rejected, it is dropped")
    return words


def _as_json(found: Route, project: Project, objects: Objects) -> dict[str, Any]:
    return {
        "hops": [
            {
                "exchange": hop.exchange,
                "type": hop.type,
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
                "retries": [delay for delay, _ in ladder.steps] if (ladder := objects.ladders.get(queue)) else [],
                "dead_letter": ladder.dead_letter if ladder else None,
            }
            for queue in found.queues
        ],
    }
