"""The ``purge`` command, which writes the ready messages of a queue to a file and removes them from the queue."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.export_file import ExportFile, in_a_folder, named_by_time
from runner.cli.terminal import progress, stoppable, warn
from runner.config.version import STREAM
from runner.deadletters.json_record import content_of
from runner.deadletters.message_text import one_line
from runner.errors import EXIT_FAILURE, EXIT_INTERRUPTED, BrokerError, RunnerError
from runner.escape import json_text
from runner.queues.removal import Purge, noting
from runner.queues.target import OpenProject, Target, check_delivers, open_project, warn_of_readers
from runner.supervisor.control.client import post_note
from runner.topology.plan import counted


@click.command(short_help="Write a queue's ready messages to a file, and remove them.")
@click.argument("queue")
@click.option(
    "--file", "path", type=click.Path(path_type=Path), callback=in_a_folder, metavar="FILE",
    help="Write to this new file instead of var/purged-TIME.jsonl.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def purge(folder: Path, queue: str, path: Path | None, yes: bool) -> None:
    """Write the ready messages of a queue to a file of JSON lines, and remove them from the queue.

    Asks for confirmation first. A message is removed only after it has been written to disk. If a service records
    attempts, a note about each removed message is added to the order history. Unacked messages remain with their
    consumers. If you press Ctrl-C, all messages that have not been removed yet remain in the queue.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "standard input is not a terminal, so the command cannot ask for confirmation; use --yes"
        )
    with open_project(folder) as site:
        target = site.find(queue, "QUEUE")
        if target.kind == STREAM:
            raise RunnerError(
                f"queue {queue!r}: messages cannot be removed from a stream; they expire after its max-age"
            )
        check_delivers(target, site.project)
        warn_of_readers(target, site.project)
        total = target.counts.messages
        if not total:
            click.echo(f"nothing purged: queue {one_line(queue)} has no ready messages{target.remaining}")
            return
        file = ExportFile(path or named_by_time(site.project.var, "purged"))
        file.check()
        if not yes:
            _ask(f"purge {counted(total, 'message')} from queue {one_line(queue)}?")
        sys.exit(_purge(site, target, file))


def _ask(question: str) -> None:
    """Return if the user answers yes. Otherwise, exit with 1, or with 130 after Ctrl-C."""
    code = EXIT_FAILURE
    try:
        if click.confirm(question, default=False):
            return
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
        click.echo(err=True)
    click.echo("nothing purged", err=code == EXIT_INTERRUPTED)
    sys.exit(code)


def _purge(site: OpenProject, target: Target, file: ExportFile) -> int:
    """Purge the messages, and return the exit code."""
    total = target.counts.messages
    with progress("purging", total) as show_done, stoppable() as stop:
        one = Purge(
            site.url, target.name, total, lambda message: file.write(json_text(content_of(message))), file.save,
            noting(site, target.name, "purged"), show_done, stop.is_set,
        )  # fmt: skip
        try:
            one.run()
        except (RunnerError, KeyboardInterrupt) as error:
            warn(f"{_purged(one, file)}. No message has been lost; to purge the rest, run the command again")
            if isinstance(error, BrokerError) and site.attempts_queue:
                raise type(error)(f"{error}; no message is removed without a note in the order history") from None
            raise
        finally:
            # The file is kept even if no message was removed, because the broker may drop a requeued message at its
            # delivery limit.
            file.sync()
            if one.done:
                text = f"purge: {counted(one.done, 'message')} purged"
                post_note(site.project.folder, "command", target.name, text)
        code = stop.exit_code
    if code:
        left = counted(max(0, total - one.done), "message")
        click.echo(f"interrupted: {_purged(one, file)}; {left} left in the queue")
    elif one.done:
        click.echo(f"{_purged(one, file)}{target.remaining}")
    else:
        click.echo(f"nothing purged: other consumers received the messages{target.remaining}")
    return code


def _purged(one: Purge, file: ExportFile) -> str:
    return f"{counted(one.done, 'message')} purged, and written to {file.path}" if one.done else "nothing purged"
