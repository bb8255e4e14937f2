"""The ``plan`` and ``apply`` commands, which show and apply the differences between topology.yaml and the broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from runner.admin.queue_replacement import QueueConsumed
from runner.admin.reconciliation import Comparison, compare, reconcile
from runner.cli.service_commands import reload_supervisor
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import wrapped
from runner.config.project import Project, load_project
from runner.errors import EXIT_BROKER, EXIT_CONFIG, EXIT_OK, RunnerError
from runner.invocation import invocation
from runner.supervisor.control.client import post_note
from runner.topology.consent import Consent
from runner.topology.plan import (
    EXIT_CHANGES,
    EXIT_REPLACE,
    EXIT_UNCOMPARED,
    Change,
    Left,
    Mark,
    Plan,
    change_line,
    counted,
)

#: Seconds to wait for the HTTP API of a broker that already answers over AMQP.
PATIENCE = 2.0
#: The maximum number of unmanaged objects to list without ``--json``.
MOST_UNMANAGED = 20

_COLOURS = {
    Mark.CREATE: "green",
    Mark.CHANGE: "yellow",
    Mark.REPLACE: "red",
    Mark.RENAME: "cyan",
    Mark.RETIRE: "magenta",
}
_WORDS = {
    Mark.CREATE: "to create",
    Mark.CHANGE: "to change in place",
    Mark.REPLACE: "to replace",
    Mark.RENAME: "to rename",
    Mark.RETIRE: "to delete",
    Mark.UNMANAGED: "not in topology.yaml",
}

#: The meaning of each exit code of ``plan``, which its help lists too.
EXIT_MEANINGS = {
    EXIT_OK: "no changes",
    EXIT_CHANGES: "changes",
    EXIT_REPLACE: "an object must be replaced",
    EXIT_UNCOMPARED: "some settings could not be compared",
    EXIT_BROKER: "the broker is unreachable",
    EXIT_CONFIG: "the broker refuses a setting",
}


@click.command(short_help="Show the differences between topology.yaml and the broker.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON object.")
@click.pass_obj
def plan(folder: Path, as_json: bool) -> None:
    """Show the differences between topology.yaml and the broker without changing the broker.

    \b
    + create   ~ change in place   ! replace   > rename   - delete   ? only on the broker

    \b
    Exit codes:
      0   no changes
      2   changes
      3   an object must be replaced
      4   some settings could not be compared
      78  the broker refuses a setting
    """  # noqa: D301 - click keeps the line breaks of a paragraph after this character
    project = load_project(folder)
    with broker_for(project) as management_url:
        examination = compare(project, management_url, PATIENCE)
    if as_json:
        click.echo(json.dumps(plan_json(examination), indent=2, ensure_ascii=False))
    else:
        _show(examination)
    sys.exit(examination.plan.exit_code)


@click.command()
@click.option(
    "--replace",
    metavar="NAME",
    multiple=True,
    help="Delete and recreate this queue or exchange. Can be repeated.",
)
@click.option("--drain", is_flag=True, help="Move the messages of each replaced queue to the new queue, in order.")
@click.option("--prune", is_flag=True, help="Delete empty, unused objects that are no longer in topology.yaml.")
@click.pass_obj
def apply(folder: Path, replace: tuple[str, ...], drain: bool, prune: bool) -> None:
    """Apply the changes that plan shows.

    Creates objects, changes objects in place, renames queues that have a "formerly" key, and deletes the objects under
    "retire". Replaces only the queues and exchanges that --replace names. All other objects that need to be replaced
    remain unchanged, and so do the objects that their messages still need.

    With --prune, unbinds and deletes objects that were declared by an earlier topology.yaml but are no longer in the
    current file. A queue that has messages or consumers is kept.

    Prints each change as soon as it is made. The command can be interrupted at any point and run again. If the command
    changes the broker, a supervisor that runs in this folder reloads the files. Exits with 0 if all changes have been
    made, or with 3 if changes remain.
    """
    project = load_project(folder)
    with broker_for(project) as management_url:
        examination = compare(project, management_url, PATIENCE, prune=prune)
        names = {change.name for change in examination.plan.of(Mark.REPLACE)}
        unknown = sorted(set(replace) - names)
        if unknown:
            raise click.BadParameter(f"no object named {unknown[0]!r} needs to be replaced", param_hint="--replace")
        _show_remarks(examination.plan)
        decision = examination.decision(Consent(frozenset(replace), drain=drain, retire=True))
        done: list[Change] = []

        def did(change: Change) -> None:
            done.append(change)
            _show_change(examination, change)

        try:
            left = reconcile(examination, decision, click.echo, did)
        except QueueConsumed as error:
            services = [name for name, one in project.config.services.items() if error.queue in one.consumes]
            raise RunnerError("; ".join([str(error), *(invocation("stop", one) for one in services)])) from None
        finally:
            if done:
                post_note(folder, "command", "topology", f"apply: {'; '.join(map(_brief, done))}")
        if done or any(one.change.mark is Mark.RENAME for one in left):
            reload_supervisor(folder)
        left = _still_left(project, management_url, left)
    kept = examination.plan.kept if prune else ()
    if not left and not kept and examination.plan.uncompared:
        click.echo("done, but some settings could not be compared")
        return
    if not left and not kept:
        click.secho("done: the broker matches topology.yaml", fg="green" if sys.stdout.isatty() else None)
        return
    for one in left:
        if not one.is_implied:
            click.secho(wrapped(f"left: {one.change.kind} {one.change.name!r}: {one.needs}"), err=True)
    for name, reason in kept:
        click.secho(wrapped(f"left: {name}: kept, {reason}"), err=True)
    sys.exit(EXIT_REPLACE)


def _brief(change: Change) -> str:
    return f"{change.mark.value} {change.kind} {change.name}"


def _still_left(project: Project, management_url: str | None, left: list[Left]) -> list[Left]:
    """Return the changes that remain after the supervisor of this folder has reloaded the files.

    The supervisor itself renames a queue after the queue's services have switched to the new name.
    """
    if not any(one.change.mark is Mark.RENAME for one in left):
        return left
    pending = {(one.mark, one.name) for one in compare(project, management_url).plan.changes}
    return [one for one in left if (one.change.mark, one.change.name) in pending]


def _show(examination: Comparison) -> None:
    found = examination.plan
    is_terminal = sys.stdout.isatty()
    waits = _waits(examination)
    for change in (one for one in found.changes if one.mark is not Mark.UNMANAGED):
        _show_change(examination, change, waits.get(id(change), ""))
    others = found.of(Mark.UNMANAGED)
    for change in others[:MOST_UNMANAGED]:
        click.secho(wrapped(change_line(change)), dim=is_terminal or None)
    if len(others) > MOST_UNMANAGED:
        rest = counted(len(others) - MOST_UNMANAGED, "more object")
        click.secho(f"? and {rest}; to list all, use --json", dim=is_terminal or None)
    _show_remarks(found)
    _show_lines("problem", found.problems)
    click.echo(wrapped(plan_summary(found)))


def _show_change(examination: Comparison, change: Change, waits_for: str = "") -> None:
    place = (
        f"  ({examination.place_of(change.thing)})" if change.mark in (Mark.CREATE, Mark.REPLACE, Mark.RENAME) else ""
    )
    waits = f"  waits for {waits_for}" if waits_for else ""
    line = wrapped(change_line(change) + place + waits)
    click.secho(line, fg=_COLOURS[change.mark] if sys.stdout.isatty() else None)


def _waits(examination: Comparison) -> dict[int, str]:
    """Return, by the id of each change, the object for which the change must wait unless ``--replace`` is used."""
    return {id(one.change): one.waits_for for one in examination.decision(Consent(retire=True)).left}


def _show_remarks(found: Plan) -> None:
    _show_lines("not compared", found.uncompared)
    _show_lines("warning", found.warnings)


def _show_lines(title: str, lines: tuple[str, ...]) -> None:
    for line in lines:
        click.secho(wrapped(f"{title}: {line}"), fg="yellow" if sys.stdout.isatty() else None, err=True)


def plan_summary(found: Plan) -> str:
    """Return a line with the number of changes of each kind."""
    counts = [(len(found.of(mark)), words) for mark, words in _WORDS.items()]
    parts = [f"{count} {words}" for count, words in counts if count]
    rest = f"; {parts[-1]}" if parts else ""
    if found.exit_code == EXIT_OK:
        return f"nothing to do{rest}"
    if found.exit_code == EXIT_UNCOMPARED:
        return f"no changes found, but some settings could not be compared{rest}"
    return ", ".join(parts)


def plan_json(examination: Comparison) -> dict[str, Any]:
    """Return a plan as JSON values."""
    found, waits = examination.plan, _waits(examination)
    return {
        "changes": [
            {
                "mark": change.mark.value,
                "action": change.mark.name.lower(),
                "kind": change.kind,
                "name": change.name,
                "new_name": change.new_name or None,
                "why": change.why,
                "messages": change.messages,
                "consumers": change.consumers,
                "waits_for": waits.get(id(change)) or None,
                "where": examination.place_of(change.thing) if change.mark is not Mark.UNMANAGED else None,
            }
            for change in found.changes
        ],
        "uncompared": list(found.uncompared),
        "warnings": list(found.warnings),
        "problems": list(found.problems),
        "exit_code": found.exit_code,
    }
