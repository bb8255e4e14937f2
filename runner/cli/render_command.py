"""The ``render``, ``import`` and ``graph`` commands, which convert topology.yaml to and from other formats."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from runner.address import Address
from runner.bounded_file import FileTooLarge, read_bounded
from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.project import TOPOLOGY_FILE, load_project, read_project
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.errors import RunnerError
from runner.strict_json import decode_json
from runner.topology.compatibility import extensions
from runner.topology.compile import compile_topology
from runner.topology.definitions import from_definitions, permissions_of, to_definitions
from runner.topology.graph import dot, graph_of, mermaid
from runner.topology.model import Objects
from runner.topology.picture.layout import layout
from runner.topology.picture.svg_writer import svg_file
from runner.topology.write import write_flow, write_topology

#: The maximum size of an export in bytes. An export of 100,000 queues is about 30 MB long.
MAX_BYTES = 64 * 1024 * 1024


@click.command(short_help="Print the compiled topology.")
@click.option("--definitions", is_flag=True, help="Print a definitions.json file for import into RabbitMQ.")
@click.option(
    "--permissions", is_flag=True, help="Print commands that grant each service only the permissions that it needs."
)
@click.option("--json", "as_json", is_flag=True, help="Print the topology or the permissions as JSON.")
@click.pass_obj
def render(folder: Path, definitions: bool, permissions: bool, as_json: bool) -> None:
    """Print the compiled topology: the exact exchanges, queues, bindings and policies.

    Needs no broker.
    """
    if definitions and permissions:
        raise click.UsageError("--definitions and --permissions cannot be used together")
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    vhost = Address.of(project.config.broker.url[0]).login.vhost
    if permissions:
        found = permissions_of(objects, project.config.services)
        if as_json:
            rights = [{**vars(one), "vhost": vhost} for one in found]
            click.echo(json.dumps(rights, indent=2, ensure_ascii=False))
            return
        for one in found:
            words = ["rabbitmqctl", "set_permissions", "-p", vhost, one.user, one.configure, one.write, one.read]
            click.echo(shlex.join(words))
        return
    content = to_definitions(objects, vhost)
    if definitions and any(None in one.arguments.values() for one in objects.bindings):
        click.echo(
            "warning: RabbitMQ's import reads null header values as text, even from RabbitMQ's own exports",
            err=True,
        )
    if definitions or as_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for section in ("exchanges", "queues", "bindings", "policies"):
        click.echo(f"{section}:")
        for one in content[section]:
            click.echo(f"  - {write_flow(_brief(one), dollar='$')}")


def _brief(one: dict[str, Any]) -> dict[str, Any]:
    # Empty arguments and false values are omitted, because they are the defaults.
    return {key: value for key, value in one.items() if key != "vhost" and value is not False and value != {}}


@click.command("import", short_help="Print a topology.yaml file generated from an export or from the running broker.")
@click.argument("source", metavar="FILE|live")
@click.option("--vhost", help="The vhost to import, if the file contains several.")
@click.pass_obj
def import_(folder: Path, source: str, vhost: str | None) -> None:
    """Print a topology.yaml file generated from a RabbitMQ export or from the running broker.

    FILE is a definitions.json file, "-" for standard input, or "live" for the broker in config.yaml. Prints to standard
    error the objects that topology.yaml cannot contain, such as users, and the errors and unknown arguments in the new
    file.
    """
    if source == "live":
        objects, notes = _live(folder), list[str]()
    else:
        try:
            objects, notes = from_definitions(_read(source), vhost)
        except RunnerError as error:
            raise RunnerError(f"{source}: {error}") from None
    text = write_topology(objects)
    for note in (*notes, *_remarks(text)):
        click.echo(note, err=True)
    click.echo(text, nl=False)


def _remarks(text: str) -> Iterator[str]:
    """Yield the errors and lint findings that an imported file inherits from its source."""
    document = Document(TOPOLOGY_FILE, text, {})
    topology = validate_document(Topology, document)
    check_references(topology, document)
    yield from (f"check reports {fault}" for fault in sorted(set(document.faults)))
    reasons = {(one.code, one.name): one.reason for one in extensions(topology)}
    yield from (f"{code}: {reason}" for (code, _), reason in reasons.items())


def _live(folder: Path) -> Objects:
    # These modules are imported here, because they load slowly and an import from a file does not need them.
    from runner.admin.reconciliation import connect
    from runner.cli.temporary_broker import broker_for

    # Errors in the project's files must not prevent an import, which may replace these files.
    project = read_project(folder)
    if project.config_document.is_unusable or project.config_document.is_faulty(("broker",)):
        project.raise_faults()
    with broker_for(project) as url:
        _, live = connect(project, url)
    return Objects(
        tuple(live.exchanges.values()),
        tuple(one.queue for one in live.queues.values() if not one.is_exclusive),
        tuple(one.binding for one in live.bindings.values() if not _is_exclusive(one.binding.destination, live.queues)),
        tuple(live.policies.values()),
    )


def _is_exclusive(queue: str, queues: Any) -> bool:
    return queue in queues and bool(queues[queue].is_exclusive)


def _read(source: str) -> Any:
    try:
        raw = read_bounded(sys.stdin.buffer if source == "-" else Path(source), MAX_BYTES)
        return decode_json(raw)
    except FileTooLarge as error:
        raise RunnerError(f"{error.strerror}; allowed: a RabbitMQ export of up to that size") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunnerError(f"cannot be read, {reason}; allowed: a readable file") from None
    except ValueError as error:
        raise RunnerError(f"not JSON, {str(error).partition(';')[0]}; export it again") from None


@click.command(short_help="Print a diagram of the topology.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot", "svg"]),
    default="mermaid",
    show_default=True,
    help="The format of the diagram.",
)
@click.pass_obj
def graph(folder: Path, form: str) -> None:
    """Print a diagram of services, exchanges, queues, and the paths between them.

    Dashed lines show the paths of failed and unroutable messages. In SVG, dead-letter queues and retry delays are part
    of their queue.
    """
    project = load_project(folder)
    objects = compile_topology(project.topology, project.consumed)
    drawn = graph_of(objects, project.config.services)
    if form == "svg":
        click.echo(svg_file(layout(drawn)), nl=False)
        return
    click.echo({"mermaid": mermaid, "dot": dot}[form](drawn), nl=False)
