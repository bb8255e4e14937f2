"""The ``events`` command, which shows the latest events."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from runner.cli.terminal import has_colour
from runner.errors import RunnerError
from runner.escape import json_text, one_line
from runner.history.access import OFF, clock, clock_form, opened, order_named, prefix_length, width_of
from runner.history.entries import causal_order
from runner.history.order_history import moment
from runner.history.records import EventRow, find_events

#: The default of ``--limit``.
LIMIT = 50
_HEAD = ("TIME", "TYPE", "ORDER", "BY", "BODY")
_COLOURS = {"created": "cyan", "success": "green", "failed": "red"}


def time_ago(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Convert an age such as ``1h`` to a time in milliseconds since the epoch. Raises click.BadParameter."""
    if value is None:
        return None
    # Imported here, because this module imports pydantic, which takes time.
    from runner.config.value import parse_duration

    try:
        return max(0, int((time.time() - parse_duration(value)) * 1000))
    except ValueError as error:
        what, _, allowed = str(error).partition("; ")
        raise click.BadParameter(f"{what}, {value!r}; {allowed}") from None


def _type(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    # The command line accepts bytes that are not text, but a database rejects such bytes.
    if value is not None and not value.isprintable():
        raise click.BadParameter(f"not a type, {value!r}; allowed: text, such as payment.failed")
    return value


@click.command(short_help="Show the latest events.")
@click.option("--order", metavar="ID", help="Show only events of this order. A unique prefix of the id is enough.")
@click.option(
    "--type", "kind", metavar="TYPE", callback=_type, help="Show only events of this type, such as payment.failed."
)
@click.option(
    "--since",
    metavar="TIME",
    callback=time_ago,
    help="Show only events from the last TIME, such as 30s, 10m, 1h or 2d.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=LIMIT,
    show_default=True,
    help="Show at most this number of events.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with headers and complete bodies.")
@click.pass_obj
def events(folder: Path, order: str | None, kind: str | None, since: int | None, limit: int, as_json: bool) -> None:
    """Show the latest events, newest last.

    The command reads the database of the audit service, and needs neither a broker nor a running supervisor. Lines are
    truncated to the width of the terminal, except with --json. Times are in local time, or in UTC with --json.
    """
    with opened(folder) as (read, recorded):
        whole = None if order is None else order_named(read, recorded, order)
        found, is_more = find_events(read, order=whole, type=kind, since=since, limit=limit)
    if not found and not recorded.has_events:
        raise RunnerError(OFF)
    by_id = {one.id: one for one in found}
    times = {one.id: (one.published_at, one.id) for one in found}
    found = [by_id[one] for one in causal_order(times, {one.id: {one.causation_id or ""} for one in found})]
    if as_json:
        shown = {"events": [_as_json(one) for one in found], "more": is_more}
        click.echo(json_text(shown, indent=2))
        return
    if not found:
        click.echo("no such events" if order or kind or since is not None else "no events yet")
        return
    if is_more:
        click.secho(
            f"older events are omitted; use --limit {2 * limit} to show more", err=True, dim=sys.stderr.isatty()
        )
    for line in _table(found):
        click.echo(line)


def _as_json(one: EventRow) -> dict[str, Any]:
    return {**asdict(one), "published_at": moment(one.published_at)}


def _table(found: Sequence[EventRow]) -> list[str]:
    form, length = clock_form(one.published_at for one in found), prefix_length({one.order_id or "" for one in found})
    rows = [
        (
            clock(one.published_at, form),
            one_line(one.type),
            one_line((one.order_id or "-")[:length]),
            one_line(one.app_id or "-"),
            one_line(_body_text(one)),
        )
        for one in found
    ]
    widths = [max(width_of(row[column]) for row in [_HEAD, *rows]) for column in range(4)]
    screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = []
    for row in [_HEAD, *rows]:
        cells = [text + " " * (width - width_of(text)) for text, width in zip(row, widths, strict=False)]
        room = None if screen is None else max(0, screen - sum(widths) - 2 * len(widths))
        if has_colour():
            style: dict[str, Any] = {"bold": True} if row is _HEAD else {"fg": _COLOURS.get(row[1].rpartition(".")[2])}
            cells[1] = click.style(cells[1], **style)
        lines.append("  ".join([*cells, _cut(row[4], room)]).rstrip())
    return lines


def _body_text(one: EventRow) -> str:
    """Return the fields of the body as text, without the order id, which has its own column.

    A body that is not a JSON object is returned unchanged.
    """
    try:
        body = json.loads(one.body)
    except (ValueError, RecursionError):
        return one.body
    if not isinstance(body, dict):
        return one.body
    fields = {name: value for name, value in body.items() if value is not None and value != one.order_id}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in fields.items()
    }
    # Ids are last, because they are long and would hide more useful fields.
    return "  ".join(f"{name}={text}" for name, text in sorted(texts.items(), key=lambda one: one[0].endswith("_id")))


def _cut(text: str, room: int | None) -> str:
    if room is None or width_of(text) <= room:
        return text
    shown = ""
    for one in text:
        if width_of(shown + one) >= room:
            break
        shown += one
    return f"{shown}…" if room else ""
