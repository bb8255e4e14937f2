"""The ``order history`` command, which shows the history of one order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import click

from runner.cli.terminal import has_colour, wrapped
from runner.config.error_detail import unknown
from runner.errors import RunnerError
from runner.escape import json_text, one_line
from runner.history.access import UNTRACED, clock, opened, order_named
from runner.history.entries import duration
from runner.history.order_history import OrderHistory, as_json, read_history
from runner.history.records import DEAD_LETTERED
from runner.invocation import invocation
from runner.messages import ACCEPTED, FAILED

_COLOURS = {"retried": "yellow", DEAD_LETTERED: "red", "replayed": "magenta", "published": "cyan", "discarded": "red"}
_STATUS_COLOURS = {FAILED: "red", ACCEPTED: "cyan"}


class OrderGroup(click.Group):
    """The ``order`` command, which suggests ``order history`` if an id is given without a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand. Raises UsageError with a suggestion for an unknown subcommand."""
        name, known = args[0], self.list_commands(ctx)
        if not ctx.resilient_parsing and not name.startswith("-") and name not in known:
            if get_close_matches(name, known):
                raise click.UsageError(unknown("command", name, known), ctx)
            remedy = f"to show the history of an order: {invocation('order', 'history', *args)}"
            raise click.UsageError(f"unknown command {name!r}; {remedy}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=OrderGroup, short_help="Show the history of an order.")
def order() -> None:
    """Show the history of an order."""


@order.command(short_help="Show the history of one order.")
@click.argument("id", metavar="ID")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def history(folder: Path, id: str, is_json: bool) -> None:
    """Show the history of one order: all events, and all attempts with services, times and errors.

    ID is an order id or a unique prefix of an order id. The command reads the database of the audit service, and needs
    neither a broker nor a running supervisor.
    """
    with opened(folder) as (read, recorded):
        found = read_history(read, order_named(read, recorded, id))
    if found is None:
        raise RunnerError(f"unknown order {id!r}; to list the orders: {invocation('events')}")
    if is_json:
        click.echo(json_text(as_json(found), indent=2))
        return
    for line in _lines(found):
        click.echo(line)
    if all(entry.is_published for entry in found.entries) and not recorded.has_attempts:
        click.secho(UNTRACED, err=True, dim=sys.stderr.isatty())


def _lines(found: OrderHistory) -> Iterator[str]:
    status = click.style(found.status, fg=_status_colour(found), bold=True) if has_colour() else found.status
    begin = found.entries[0].at
    yield f"order {one_line(found.order_id)}: {status}"
    yield f"started {clock(begin, '%Y-%m-%d %H:%M:%S')}; since then:"
    after = [f"{max(0, entry.at - begin) / 1000:.3f} s" for entry in found.entries]
    width = max(len(one) for one in after)
    for entry, time in zip(found.entries, after, strict=True):
        margin = f"  {time:>{width}}  "
        for line in wrapped(f"{margin}{one_line(entry.what)}", len(margin)).splitlines():
            what = line[len(margin) :]
            yield line[: len(margin)] + (click.style(what, fg=_COLOURS.get(entry.kind)) if has_colour() else what)
    for one in found.dead_lettered:
        what = f"{one.message_type or 'a message'} of {one.queue}"
        yield wrapped(one_line(f"still dead-lettered: {what}, since {clock(one.since)}"))
    for pending in found.waiting:
        what = f"{pending.message_type or 'a message'} of {pending.queue}"
        yield one_line(f"waiting for the next attempt: {what}, due at {clock(pending.due)}")
    yield wrapped(_totals(found))


def _status_colour(found: OrderHistory) -> str:
    # By convention, event types for failures end with .failed.
    decided = "yellow" if (found.decided_by or "").endswith(".failed") else "green"
    return _STATUS_COLOURS.get(found.status, decided)


def _totals(found: OrderHistory) -> str:
    totals = found.totals
    decided = "not decided yet" if totals.decided is None else f"decided after {duration(totals.decided)}"
    words = [decided, f"{duration(totals.waited)} waiting in queues"]
    if totals.delayed:
        words[1] += f" (including {duration(totals.delayed)} of retry delays)"
    words.append(f"{duration(totals.handled)} in handlers")
    if totals.dead_lettered:
        words.append(f"{duration(totals.dead_lettered)} dead-lettered")
    return ", ".join(words)
