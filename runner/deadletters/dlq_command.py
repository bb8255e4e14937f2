"""The ``dlq`` commands, which list, show, replay, discard and export dead letters."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.export_file import ExportFile, in_a_folder
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.discard_command import discard
from runner.deadletters.grouping import GroupedDeadLetters
from runner.deadletters.json_record import group_record, record_of
from runner.deadletters.message_text import table, whole
from runner.deadletters.open_queues import opened
from runner.deadletters.replay_command import replay
from runner.deadletters.selection import (
    FINGERPRINT,
    QUEUE,
    Selection,
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


@click.group(short_help="List, show, replay, discard and export dead letters.")
def dlq() -> None:
    """List, show, replay, discard and export the messages in the project's dead-letter queues.

    The list, show and export commands remove no messages. The replay command removes a dead letter only after the
    broker has confirmed a copy in the queue in which the message failed. The discard command removes a dead letter only
    after writing it to a file and asking for confirmation.
    """


dlq.add_command(replay)
dlq.add_command(discard)


@dlq.command("list", short_help="List dead letters by queue and cause.")
@FINGERPRINT
@QUEUE
@_json
@click.pass_obj
def list_(folder: Path, fingerprint: str | None, queue: str | None, as_json: bool) -> None:
    """List dead letters in groups by queue, exception and the line of the plugin that raised the exception.

    The QUEUE column shows the queue in which the messages failed. The FINGERPRINT column identifies the group in other
    commands. If no line of a plugin is known, errors that differ only in ids or numbers form one group. Each group
    shows its latest error. Exits with 1 if no dead letter is visible but another consumer may have unacked messages.
    """
    grouped = GroupedDeadLetters()
    with opened(folder, queue) as there:
        selection = Selection(None, None, there.origin, fingerprint)
        there.read(lambda message, origin: grouped.add(message, origin) if selection.matches(message, origin) else None)
    groups = grouped.groups()
    if as_json:
        found = [group_record(one) for one in groups]
        click.echo(json_text({"messages": grouped.count, "groups": found}, indent=2))
    if not groups and there.hidden:
        for line in unseen(there):
            click.echo(line, err=as_json)
        sys.exit(EXIT_FAILURE)
    if as_json:
        return
    if not groups:
        click.echo(empty(there) if fingerprint is None else f"no dead letters with the fingerprint {fingerprint}")
        return
    for line in table(groups, grouped.prefixes([one.example for one in groups])):
        click.echo(line)
    click.echo(f"{counted(grouped.count, 'dead letter')}; use dlq show ID for details")


@dlq.command(short_help="Show one dead letter in full.")
@click.argument("beginning", metavar="ID")
@QUEUE
@_json
@click.pass_obj
def show(folder: Path, beginning: str, queue: str | None, as_json: bool) -> None:
    """Show a dead letter in full: the reason, queue and time of its failure, its headers and its body.

    ID can be any unique prefix of a message id. If no message id begins with ID, the command searches the correlation
    ids (order ids), and shows all dead letters of the matching order. If a message failed in several queues, the
    command shows its copy from each dead-letter queue.
    """
    candidates: list[tuple[DeadLetter, str | None]] = []
    with opened(folder, queue) as there:
        there.read(
            lambda message, origin: candidates.append((message, origin)) if begins(message, (beginning,)) else None
        )
    wanted = whole_ids(there, (beginning,), ((message.id, message.correlation_id) for message, _ in candidates))
    for number, (message, origin) in enumerate(one for one in candidates if one[0].id in wanted):
        if as_json:
            click.echo(json_text(record_of(message, origin), indent=2))
        else:
            click.echo("\n".join([*([""] if number else []), *whole(message, origin)]))


@dlq.command(short_help="Export dead letters as JSON lines.")
@selecting
@click.option(
    "--file", "path", type=click.Path(path_type=Path), callback=in_a_folder, metavar="FILE",
    help="Write to this new file instead of standard output.",
)  # fmt: skip
@click.pass_obj
def export(
    folder: Path,
    queue: str | None,
    match: str | None,
    fingerprint: str | None,
    ids: tuple[str, ...],
    path: Path | None,
) -> None:
    """Export all or selected dead letters as JSON lines. The messages remain in their queues."""
    file, count = (ExportFile(path) if path is not None else None), 0
    with opened(folder, queue) as there:
        selection = selection_of(there, match, fingerprint, ids)

        def keep(message: DeadLetter, origin: str | None) -> None:
            nonlocal count
            if selection.matches(message, origin):
                count += 1
                line = json_text(record_of(message, origin))
                if file is not None:
                    file.write(line)
                else:
                    sys.stdout.write(line + "\n")

        try:
            there.read(keep, "exporting")
            if file is not None:
                file.sync()
        except BaseException:
            # A partial file would look like a complete export.
            if file is not None:
                file.remove()
            raise
    if count and file is not None:
        click.echo(f"{counted(count, 'message')} exported to {file.path}")
    elif not count and there.hidden:
        # If no file is named, standard output must contain only the exported messages.
        click.echo(nothing(there, "exported", selection), err=file is None)
        sys.exit(EXIT_FAILURE)
    elif file is not None:
        click.echo(nothing(there, "exported", selection))
