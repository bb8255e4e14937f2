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
from runner.topology.plan import counted
from runner.topology.queue_limits import DROPS

#: The limits that make a queue drop its oldest messages, unless its ``overflow`` is set to another behaviour.
_LIMITS = ("max-length", "max-length-bytes")


@click.command(short_help="Move the ready messages of a queue to another queue.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Print what would be moved, and move nothing.")
@click.pass_obj
def move(folder: Path, source: str, target: str, dry_run: bool) -> None:
    """Move the messages that are ready in queue FROM to the end of queue TO, in order.

    A message leaves FROM only after the broker has confirmed its copy in TO. The copy keeps the properties and headers
    of the message. After Ctrl-C, or if the broker becomes unreachable, no message is lost. Run the command again to
    move the rest.

    Exits with 1 if some messages stay because TO refuses them.
    """
    if source == target:
        raise click.UsageError(f"FROM and TO are the same queue, {source!r}; allowed: two queues")
    with open_project(folder) as site:
        first, second = site.find(source, "FROM"), site.find(target, "TO")
        _check(first, second)
        check_delivers(first, site.project)
        _warn(first, site)
        total = first.counts.messages
        what = f"{counted(total, 'message')} from {one_line(source)} to {one_line(target)}"
        if dry_run or not total:
            stay = f"; {first.held} stay with their consumers" if first.held else ""
            click.echo(f"would move {what}{stay}; nothing was changed" if dry_run else f"nothing moved: {what}{stay}")
            return
        sys.exit(_move(site, first, second))


def _check(first: Target, second: Target) -> None:
    """Raise RunnerError if the first queue is a stream, or if the second queue would drop messages."""
    if first.kind == STREAM:
        raise RunnerError(f"queue {first.name!r}: a stream, from which no message can be removed")
    if second.kind is None:
        text = "its type and limits are unknown, so it may drop messages"
        raise RunnerError(f"queue {second.name!r}: {text}; enable rabbitmq_management, or add it to topology.yaml")
    limits = {key: value for key in _LIMITS if (value := second.setting(key)) is not None}
    if not limits or (second.setting("overflow") or DROPS) != DROPS:
        return
    length, room = limits.get("max-length"), first.counts.messages + second.counts.messages
    if "max-length-bytes" in limits or (isinstance(length, int) and room > length):
        said = ", ".join(f"{key} {value}" for key, value in limits.items())
        text = f"its {said} would make it drop messages, because it would contain {room}"
        raise RunnerError(f"queue {second.name!r}: {text}; raise the limit, or set overflow: reject-publish")


def _warn(first: Target, site: OpenProject) -> None:
    name = one_line(first.name)
    warn_of_readers(first, site.project)
    if first.name in Origins.of(site.objects).origins:
        warn(f"queue {name}: a dead-letter queue; dlq replay would give its messages all their attempts again")


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
            words = f"{counted(one.done, 'message')} moved; no message is lost, run the command again"
            raise type(error)(f"{error}\n{words}") from None
        code = stop.exit_code
    if code:
        left = max(0, total - one.done)
        click.echo(f"interrupted: {counted(one.done, 'message')} moved, {left} left in {one_line(first.name)}")
        return code
    stay = f"; {first.held} stay with their consumers" if first.held else ""
    click.echo(f"{counted(one.done, 'message')} moved to {one_line(second.name)}{stay}")
    if one.done < total:
        warn(f"other consumers received {counted(total - one.done, 'message')} of {one_line(first.name)}")
    return code


def _warn_of_unnoted(one: Transfer) -> None:
    if one.unnoted:
        warn(f"{counted(one.unnoted, 'message')} moved without a note in the order history")
