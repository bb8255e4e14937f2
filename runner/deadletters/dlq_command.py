"""``dlq``: the dead-letter desk: what is parked and why, and what becomes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.export_file import ExportFile, in_a_folder
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.discard_command import discard
from runner.deadletters.grouping import GroupedDeadLetters
from runner.deadletters.json_record import iso, record_of
from runner.deadletters.message_text import table, whole
from runner.deadletters.open_queues import opened
from runner.deadletters.replay_command import replay
from runner.deadletters.selection import (
    QUEUE,
    begins,
    empty,
    nothing,
    selecting,
    selection_of,
    unseen,
    whole_ids,
)
from runner.errors import EXIT_FAILURE
from runner.escape import json_text
from runner.topology.plan import counted

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Parked messages: list, show, replay, discard, export.")
def dlq() -> None:
    """The dead-letter desk: messages that could not be handled, parked in the dead-letter queues of the project.

    Looking at them consumes nothing. A message leaves its dead-letter queue only once its copy is confirmed in the
    queue that it failed in (replay), or once it is in a file and you said so (discard).
    """


dlq.add_command(replay)
dlq.add_command(discard)


@dlq.command("list", short_help="What is parked, by queue and error.")
@QUEUE
@_json
@click.pass_obj
def list_(folder: Path, queue: str | None, as_json: bool) -> None:
    """List what is parked, by the queue it failed in and its error, with how many, and when the first and the last.

    Errors that differ only in an id or a number are one kind; the latest one's is shown. Exits with 1 when there is
    nothing to see because somebody else may hold it.
    """
    desk = GroupedDeadLetters()
    with opened(folder, queue) as there:
        there.read(desk.add)
    groups = desk.groups()
    if as_json:
        found = [
            {
                "queue": one.queue, "origin": one.origin, "error": one.error, "count": one.count,
                "first": iso(one.first), "last": iso(one.last), "latest_id": one.example,
            }
            for one in groups
        ]  # fmt: skip
        click.echo(json_text({"messages": desk.count, "groups": found}, indent=2))
    if not groups and there.hidden:
        for line in unseen(there):
            click.echo(line, err=as_json)
        sys.exit(EXIT_FAILURE)
    if as_json:
        return
    if not groups:
        click.echo(f"{empty(there)}: no message is parked")
        return
    for line in table(groups, desk.prefixes([one.example for one in groups])):
        click.echo(line)
    click.echo(f"{counted(desk.count, 'message')} parked; show ID tells all of one")


@dlq.command(short_help="All of one message.")
@click.argument("beginning", metavar="ID")
@QUEUE
@_json
@click.pass_obj
def show(folder: Path, beginning: str, queue: str | None, as_json: bool) -> None:
    """Show all of one message: why, where and when it failed, its headers and its body.

    ID may be shortened as long as only one message begins with it. Where none does, it is the correlation id of an
    order, or its beginning, and all that is parked of that order is shown. A message that failed in several queues is
    parked in each of their dead-letter queues, and shown for each.
    """
    candidates: list[tuple[DeadLetter, str | None]] = []
    with opened(folder, queue) as there:
        there.read(lambda letter, origin: candidates.append((letter, origin)) if begins(letter, (beginning,)) else None)
    wanted = whole_ids(there, (beginning,), ((letter.id, letter.correlation_id) for letter, _ in candidates))
    for number, (letter, origin) in enumerate(one for one in candidates if one[0].id in wanted):
        if as_json:
            click.echo(json_text(record_of(letter, origin), indent=2))
        else:
            click.echo("\n".join([*([""] if number else []), *whole(letter, origin)]))


@dlq.command(short_help="Write messages as JSON lines.")
@selecting
@click.option(
    "--to", type=click.Path(path_type=Path), callback=in_a_folder, metavar="FILE",
    help="A file, instead of standard output.",
)  # fmt: skip
@click.pass_obj
def export(folder: Path, queue: str | None, match: str | None, ids: tuple[str, ...], to: Path | None) -> None:
    """Write messages as JSON lines: all that is parked, or what is selected. Nothing is consumed."""
    file, count = (ExportFile(to) if to is not None else None), 0
    with opened(folder, queue) as there:
        selection = selection_of(there, match, ids)

        def keep(letter: DeadLetter, origin: str | None) -> None:
            nonlocal count
            if selection.takes(letter, origin):
                count += 1
                line = json_text(record_of(letter, origin))
                if file is not None:
                    file.write(line)
                else:
                    sys.stdout.write(line + "\n")

        try:
            there.read(keep, "exporting")
            if file is not None:
                file.sync()
        except BaseException:
            # Half an export looks like a whole one.
            if file is not None:
                file.remove()
            raise
    if count and file is not None:
        click.echo(f"{counted(count, 'message')} exported to {file.path}")
    elif not count and there.hidden:
        # Standard output is what was exported, where no file is named.
        click.echo(nothing(there, "exported", selection), err=file is None)
        sys.exit(EXIT_FAILURE)
    elif file is not None:
        click.echo(nothing(there, "exported", selection))
