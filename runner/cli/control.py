"""``start``, ``stop``, ``restart``, ``scale``, ``reload``, ``down``, ``logs``: tell the runner that is running."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from runner.cli.client import EndedMeanwhile, NoRunner, ask, wait_gone
from runner.cli.terminal import has_colour
from runner.errors import RunnerError
from runner.invocation import invocation
from runner.supervisor.output.line import Line, TextForm, json_form

#: As wide as most slots' names are.
WIDTH = 14
#: Characters of an order's id that are enough to find its lines.
SHORTEST_ID = 4
#: Seconds that a runner may say nothing after an ``apply``.
PATIENCE = 60.0

_target = click.argument("target", metavar="SERVICE[.N]")


@click.command(short_help="Start a service that was stopped or given up.")
@_target
@click.pass_obj
def start(folder: Path, target: str) -> None:
    """Start a service, or one of its slots, that was stopped, has ended or was given up.

    Returns once it is ready; fails with the reason where it does not get there.
    """
    _tell(folder, "start", target=target)


@click.command(short_help="Stop a service; the others run on.")
@_target
@click.pass_obj
def stop(folder: Path, target: str) -> None:
    """Stop a service, or one of its slots, after the messages in hand; the others run on.

    It stays stopped until "start". The whole runner is stopped by "down".
    """
    _tell(folder, "stop", target=target)


@click.command(short_help="Replace a service's processes by fresh ones.")
@_target
@click.pass_obj
def restart(folder: Path, target: str) -> None:
    """Replace a service's processes, or one of them, by fresh ones.

    One at a time: each new one is ready before the old one finishes what it has in hand and ends. Where the new one
    does not get ready, the old one runs on. What does not run is started.
    """
    _tell(folder, "restart", target=target)


@click.command(short_help="Change how many instances of a service run.")
@click.argument("service")
@click.argument("instances", type=click.IntRange(0, 64))
@click.pass_obj
def scale(folder: Path, service: str, instances: int) -> None:
    """Change how many instances of a service run; those that stay are not touched.

    It holds until the runner ends, or until instances in config.yaml is changed and taken over.
    """
    _tell(folder, "scale", target=service, instances=instances)


@click.command(short_help="Take over what the files say now.")
@click.pass_obj
def reload(folder: Path) -> None:
    """Take over what topology.yaml, config.yaml and the plugins say now.

    All is checked first; whatever is wrong, everything runs on as it was. Only services that changed are replaced, one
    instance at a time, the new one before the old one. SIGHUP does the same.
    """
    _tell(folder, "reload")


@click.command(short_help="Stop the runner and all its services.")
@click.pass_obj
def down(folder: Path) -> None:
    """Stop the runner that runs here, with all its services, and wait until it has ended."""
    try:
        _tell(folder, "down")
    except EndedMeanwhile:
        wait_gone(folder)


@click.command(short_help="Show what services printed.")
@click.argument("target", metavar="[SERVICE[.N]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what they print from now on, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 500), default=100, show_default=True, help="How many of the latest lines."
)
@click.option("--order", metavar="ID", help="Only lines that name this order; the beginning of its id is enough.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
@click.pass_obj
def logs(folder: Path, target: str | None, follow: bool, lines: int, order: str | None, as_json: bool) -> None:
    """Show the latest lines of all services, of one of them, or of the runner itself ("runner").

    The lines of several services are in the order of their times.
    """
    if order is not None and len(order := order.strip().rstrip("…")) < SHORTEST_ID:
        text = f"too short, {order!r}; allowed: {SHORTEST_ID} characters or more"
        raise click.BadParameter(text, param_hint="--order")
    form = json_form if as_json else TextForm(colour=has_colour(), width=WIDTH, has_short_ids=sys.stdout.isatty())
    for answer in ask(folder, "logs", target=target, follow=follow, lines=lines, order=order):
        _show(answer, form)


def have_taken_over(folder: Path) -> None:
    """Have the runner that runs in this folder, if one does, take over what the broker holds now; shows what it says.

    Services that something held back start then. A runner that cannot do it is reported, with what to do.
    """
    is_said = False
    try:
        for answer in ask(folder, "reload", patience=PATIENCE):
            if not is_said:
                click.echo("the runner that runs here takes it over, with what the files say now:")
                is_said = True
            _show_all(answer, TextForm(colour=has_colour(), width=8))
    except NoRunner:
        return
    except RunnerError as error:
        click.secho(f"the runner that runs here: {error}; once that is mended: {invocation('reload')}", err=True)


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
        click.echo(f"{answer['dropped']} lines dropped: they came faster than they were read", err=True)
    elif "line" in answer:
        click.echo(form(Line(**answer["line"])))
        sys.stdout.flush()
