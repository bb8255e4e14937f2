"""The commands for the running supervisor, such as ``start``, ``reload`` and ``logs``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runner.cli.terminal import has_colour
from runner.errors import RunnerError
from runner.invocation import invocation
from runner.supervisor.control.client import EndedMeanwhile, NoRunner, ask, wait_gone
from runner.supervisor.output.line import Line, TextForm, json_form

#: The width of the slot column in characters, which is enough for most names.
WIDTH = 14
#: The minimum length of an order id's prefix, in characters.
SHORTEST_ID = 4
#: Seconds within which the supervisor must answer after an ``apply``.
PATIENCE = 60.0

_target = click.argument("target", metavar="SERVICE[.N]")


@click.command(short_help="Start a service that was stopped or has exited.")
@_target
@click.pass_obj
def start(folder: Path, target: str) -> None:
    """Start a service or slot that was stopped, that has exited, or that the supervisor gave up on.

    Returns when the service is ready. Fails and reports the reason if the service does not become ready.
    """
    _tell(folder, "start", target=target)


@click.command(short_help="Stop a service without stopping the others.")
@_target
@click.pass_obj
def stop(folder: Path, target: str) -> None:
    """Stop a service or slot after it has handled its current messages. Other services keep running.

    The service remains stopped until you run "start". To stop the supervisor and all services, use "down".
    """
    _tell(folder, "stop", target=target)


@click.command(short_help="Restart a service, one process at a time.")
@_target
@click.pass_obj
def restart(folder: Path, target: str) -> None:
    """Restart a service or slot by replacing its processes, one at a time.

    The old process finishes its messages and exits only after the new process is ready. If the new process does not
    become ready, the old process keeps running. A stopped process is started.
    """
    _tell(folder, "restart", target=target)


@click.command(short_help="Change the number of instances of a service.")
@click.argument("service")
@click.argument("instances", type=click.IntRange(0, 64))
@click.pass_obj
def scale(folder: Path, service: str, instances: int) -> None:
    """Change the number of instances of a service without restarting the remaining instances.

    The number applies until the supervisor exits, or until a reload finds a different number of instances in
    config.yaml.
    """
    _tell(folder, "scale", target=service, instances=instances)


@click.command(short_help="Apply the changed files and plugins.")
@click.pass_obj
def reload(folder: Path) -> None:
    """Apply the changes made in topology.yaml, config.yaml and the plugins.

    All files and plugins are checked first. If there is an error, nothing changes. Only changed services are replaced,
    one instance at a time. Each new instance is ready before the old instance stops. Sending SIGHUP to the supervisor
    has the same effect. Exits with 78 if there is a configuration error.
    """
    _tell(folder, "reload")


@click.command(short_help="Stop the supervisor and all services.")
@click.pass_obj
def down(folder: Path) -> None:
    """Stop the supervisor of this folder and all its services, and wait until the supervisor has exited."""
    try:
        _tell(folder, "down")
    except EndedMeanwhile:
        wait_gone(folder)


@click.command(short_help="Show the latest log lines of services.")
@click.argument("target", metavar="[SERVICE[.N]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Also show new lines as they are logged, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 500), default=100, show_default=True, help="The number of lines to show."
)
@click.option("--order", metavar="ID", help="Show only lines about this order. A prefix of the order id is enough.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per log line.")
@click.pass_obj
def logs(folder: Path, target: str | None, follow: bool, lines: int, order: str | None, as_json: bool) -> None:
    """Show the latest log lines of all services, of one service or slot, or of the supervisor ("runner").

    Lines from several services are sorted by time.
    """
    if order is not None and len(order := order.strip().rstrip("…")) < SHORTEST_ID:
        text = f"too short, {order!r}; allowed: {SHORTEST_ID} characters or more"
        raise click.BadParameter(text, param_hint="--order")
    form = json_form if as_json else TextForm(colour=has_colour(), width=WIDTH, has_short_ids=sys.stdout.isatty())
    for answer in ask(folder, "logs", target=target, follow=follow, lines=lines, order=order):
        _show(answer, form)


def reload_supervisor(folder: Path) -> None:
    """Make the supervisor of this folder reload the files after a change on the broker, and print the answer.

    The reload starts services that waited for the change. If the reload fails, the function prints the error and the
    command to run after the fix. If no supervisor runs, the function does nothing.
    """
    is_announced = False
    try:
        for answer in ask(folder, "reload", patience=PATIENCE):
            if not is_announced:
                click.echo("the supervisor of this folder reloads the files:")
                is_announced = True
            _show_all(answer, TextForm(colour=has_colour(), width=8))
    except NoRunner:
        return
    except RunnerError as error:
        click.secho(f"the supervisor of this folder: {error}; after the fix, run: {invocation('reload')}", err=True)


def _tell(folder: Path, command: str, **request: Any) -> None:
    form = TextForm(colour=has_colour(), width=8)
    for answer in ask(folder, command, **request):
        _show_all(answer, form)


def _show_all(answer: dict[str, Any], form: Callable[[Line], str]) -> None:
    _show(answer, form)
    if "done" in answer:
        click.secho(answer["done"], fg="green" if has_colour() else None)


def _show(answer: dict[str, Any], form: Callable[[Line], str]) -> None:
    if "dropped" in answer:
        click.echo(f"{answer['dropped']} lines were dropped, because this command read them too slowly", err=True)
    elif "line" in answer:
        click.echo(form(Line(**answer["line"])))
        sys.stdout.flush()
