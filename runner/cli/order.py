"""``order show``: the story of one order."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli.audited import UNTRACED, clock, opened, order_named
from runner.cli.terminal import has_colour
from runner.desk.record import json_text
from runner.errors import RunnerError
from runner.escape import one_line
from runner.invocation import invocation
from runner.messages import ACCEPTED, FAILED
from runner.store.journey import Journey, as_json, journey
from runner.store.story import duration

_COLOURS = {"retried": "yellow", "parked": "red", "replayed": "magenta", "published": "cyan", "discarded": "red"}
_STATUS_COLOURS = {FAILED: "red", ACCEPTED: "cyan"}


@click.group(short_help="Show what became of an order.")
def order() -> None:
    """Show what became of an order."""


@order.command(short_help="Tell the story of one order.")
@click.argument("id", metavar="ID")
@click.option("--json", "is_json", is_flag=True, help="Print the story as one JSON object.")
@click.pass_obj
def show(folder: Path, id: str, is_json: bool) -> None:
    """Tell the story of one order: what was published, who handled it when, what failed and was tried again.

    ID is the order's id, or as much of it as no other one begins with. The story is read from the database that the
    service audit writes to; no broker or runner is needed.
    """
    with opened(folder) as (read, recorded):
        found = journey(read, order_named(read, recorded, id))
    if found is None:
        raise RunnerError(f"no such order here, {id!r}; see: {invocation('events')}")
    if is_json:
        click.echo(json_text(as_json(found), indent=2))
        return
    for line in _lines(found):
        click.echo(line)
    if all(entry.is_published for entry in found.entries) and not recorded.has_attempts:
        click.secho(UNTRACED, err=True, dim=sys.stderr.isatty())


def _lines(found: Journey) -> Iterator[str]:
    status = click.style(found.status, fg=_status_colour(found), bold=True) if has_colour() else found.status
    begin = found.entries[0].at
    yield f"order {one_line(found.order_id)}: {status}"
    yield f"begun {clock(begin, '%Y-%m-%d %H:%M:%S')}, and after that:"
    # The same width for all, so that the words stand below each other.
    after = [f"{max(0, entry.at - begin) / 1000:.3f} s" for entry in found.entries]
    width = max(len(one) for one in after)
    screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for entry, time in zip(found.entries, after, strict=True):
        margin = f"  {time:>{width}}  "
        for line in _wrapped(one_line(entry.what), screen and screen - len(margin)):
            yield margin + (click.style(line, fg=_COLOURS.get(entry.kind)) if has_colour() else line)
            margin = " " * len(margin)
    for one in found.parked:
        where = f"{one.message_type or 'a message'} of {one.queue}"
        yield one_line(f"still parked: {where}, in the queue's dead-letter queue since {clock(one.since)}")
    for next_try in found.waiting:
        what = f"{next_try.message_type or 'a message'} of {next_try.queue}"
        yield one_line(f"waiting for its next try: {what}, due at {clock(next_try.due)}")
    yield _totals(found)


def _status_colour(found: Journey) -> str:
    # A decision is as good as the event's type says, such as payment.failed.
    decided = "yellow" if (found.decided_by or "").endswith(".failed") else "green"
    return _STATUS_COLOURS.get(found.status, decided)


def _wrapped(text: str, room: int | None) -> list[str]:
    return [text] if room is None else textwrap.wrap(text, max(room, 20), break_on_hyphens=False) or [text]


def _totals(found: Journey) -> str:
    totals = found.totals
    decided = "not decided yet" if totals.decided is None else f"decided after {duration(totals.decided)}"
    words = [decided, f"{duration(totals.waited)} waiting in queues"]
    if totals.delayed:
        words[1] += f" ({duration(totals.delayed)} of it for the next try)"
    words.append(f"{duration(totals.handled)} in handlers")
    return ", ".join([*words, *([f"{duration(totals.parked)} parked"] if totals.parked else [])])
