"""The ``route`` command, which shows the queues that a message would reach, without a broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from runner.cli.terminal import wrapped
from runner.config.project import load_project
from runner.topology.compile import compile_topology
from runner.topology.route_report import InvalidMessage, parse_header, report_route


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
    try:
        report = report_route(project, objects, exchange, key, dict(parse_header(one) for one in headers))
    except InvalidMessage as error:
        raise click.BadParameter(str(error), param_hint=error.part) from None
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in report.lines():
            click.echo(wrapped(line, 8 if line.startswith("    ") else 4))
    sys.exit(0 if report.route.queues else 1)
