"""The ``move`` command, which moves the ready messages of a queue to another queue."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.terminal import progress, stoppable, warn
from runner.config.version import STREAM
from runner.deadletters.message_text import one_line
from runner.deadletters.origins import Origins
from runner.errors import EXIT_FAILURE, PublishRefused, RunnerError, Unroutable
from runner.queues.removal import Transfer, noting
from runner.queues.target import OpenProject, Target, check_delivers, open_project, warn_of_readers
from runner.supervisor.control.client import post_note
from runner.topology.plan import counted
from runner.topology.queue_limits import DROPS

#: The limits at which a queue drops its oldest messages, unless ``overflow`` is set to another behaviour.
_LIMITS = ("max-length", "max-length-bytes")


@click.command(short_help="Move the ready messages of a queue to another queue.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Show how many messages would be moved, without moving them.")
@click.pass_obj
def move(folder: Path, source: str, target: str, dry_run: bool) -> None:
    """Move the ready messages of queue FROM to the end of queue TO, in order.

    A message leaves FROM only after the broker has confirmed its copy in TO. The copy keeps the properties and headers
    of the message. No message is lost if you press Ctrl-C or if the broker becomes unreachable. To move the remaining
    messages, run the command again.

    Exits with 1 if messages remain in FROM because TO refuses them.
    """
    if source == target:
        raise click.UsageError(f"FROM and TO are the same queue, {source!r}; allowed: two different queues")
    with open_project(folder) as site:
        first, second = site.find(source, "FROM"), site.find(target, "TO")
        _check(first, second)
        check_delivers(first, site.project)
        _warn(first, site)
        total = first.counts.messages
        what = f"{counted(total, 'message')} from {one_line(source)} to {one_line(target)}"
        if dry_run or not total:
            rest = first.remaining
            click.echo(f"would move {what}{rest}; nothing was changed" if dry_run else f"nothing moved: {what}{rest}")
            return
        sys.exit(_move(site, first, second))


def _check(first: Target, second: Target) -> None:
    """Raise RunnerError if the first queue is a stream, or if the second queue would drop messages."""
    if first.kind == STREAM:
        raise RunnerError(f"queue {first.name!r}: messages cannot be moved from a stream")
    if second.kind is None:
        text = "its type and limits are unknown, so the queue might drop messages"
        remedy = "enable rabbitmq_management, or add the queue to topology.yaml"
        raise RunnerError(f"queue {second.name!r}: {text}; {remedy}")
    limits = {key: value for key in _LIMITS if (value := second.setting(key)) is not None}
    if not limits or (second.setting("overflow") or DROPS) != DROPS:
        return
    length, room = limits.get("max-length"), first.counts.messages + second.counts.messages
    if "max-length-bytes" in limits or (isinstance(length, int) and room > length):
        said = ", ".join(f"{key} {value}" for key, value in limits.items())
        text = f"with {said}, the queue might drop some of its {room} messages"
        raise RunnerError(f"queue {second.name!r}: {text}; raise the limit, or set overflow: reject-publish")


def _warn(first: Target, site: OpenProject) -> None:
    name = one_line(first.name)
    warn_of_readers(first, site.project)
    if first.name in Origins.of(site.objects).origins:
        warn(f"queue {name} is a dead-letter queue; to also reset the attempts of its messages, use dlq replay")


def _move(site: OpenProject, first: Target, second: Target) -> int:
    """Move the messages, and return the exit code."""
    total = first.counts.messages
    with progress("moving", total) as show_done, stoppable() as stop:
        note = noting(site, first.name, f"moved to {second.name}", second.name)
        one = Transfer(site.url, first.name, second.name, total, note, show_done, stop.is_set)
        try:
            one.run()
        except (PublishRefused, Unroutable) as error:
            left = max(0, total - one.done)
            warn(f"not moved to {one_line(second.name)}: {error}")
            _warn_of_unnoted(one)
            click.echo(f"{counted(one.done, 'message')} moved, {left} left in {one_line(first.name)}")
            return EXIT_FAILURE
        except RunnerError as error:
            _warn_of_unnoted(one)
            moved = counted(one.done, "message")
            words = f"{moved} moved, and no message has been lost; to move the rest, run the command again"
            raise type(error)(f"{error}\n{words}") from None
        finally:
            if one.done:
                text = f"move: {counted(one.done, 'message')} moved to {second.name}"
                post_note(site.project.folder, "command", first.name, text)
        code = stop.exit_code
    if code:
        left = max(0, total - one.done)
        click.echo(f"interrupted: {counted(one.done, 'message')} moved, {left} left in {one_line(first.name)}")
        return code
    click.echo(f"{counted(one.done, 'message')} moved to {one_line(second.name)}{first.remaining}")
    if one.done < total:
        warn(f"other consumers received {counted(total - one.done, 'message')} from {one_line(first.name)}")
    return code


def _warn_of_unnoted(one: Transfer) -> None:
    if one.unnoted:
        warn(f"{counted(one.unnoted, 'message')} moved without a note in the order history")
