"""The ``order history`` command, which shows the history of one order."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import click

from runner.cli.table_columns import GAP, fitting_columns, no_room
from runner.cli.terminal import has_colour, terminal_width, wrapped
from runner.config.error_detail import unknown
from runner.errors import RunnerError
from runner.escape import json_text, one_line
from runner.history.access import OFF, UNTRACED, clock, clock_form, opened, order_named, prefix_length, width_of
from runner.history.entries import duration
from runner.history.events_command import LIMIT, time_ago
from runner.history.order_history import OrderHistory, as_json, read_history
from runner.history.order_list import OrderFilter, known_statuses, list_orders
from runner.history.order_summary import OrderSummary, open_work, summary_json
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


@click.group(cls=OrderGroup, short_help="List orders, or show the history of one order.")
def order() -> None:
    """List orders, or show the history of one order."""


def _address(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    # The command line accepts bytes that are not text, and no recorded address contains such bytes.
    if value is not None and not (value.isprintable() and value.strip()):
        allowed = "an address, such as alice@example.com, or its beginning without the domain, such as alice"
        raise click.BadParameter(f"not an e-mail address, {value!r}; allowed: {allowed}")
    return value if value is None else value.strip()


@order.command("list", short_help="List the latest orders.")
@click.option("--status", metavar="STATUS", help="List only orders with this status, such as paid or failed.")
@click.option(
    "--email",
    metavar="ADDRESS",
    callback=_address,
    help="List only orders of the customer with this address, or of all customers whose addresses begin with this text,"
    " if it has no domain. Upper and lower case are equal.",
)
@click.option(
    "--since",
    metavar="TIME",
    callback=time_ago,
    help="List only orders that started in the last TIME, such as 30s, 10m, 1h or 2d.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=LIMIT,
    show_default=True,
    help="List at most this number of orders.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def list_command(
    folder: Path, status: str | None, email: str | None, since: int | None, limit: int, is_json: bool
) -> None:
    """List the latest orders, newest last, with their statuses and customers.

    The command reads the database of the audit service, and needs neither a broker nor a running supervisor. An order
    starts with its first recorded event, whose body contains the amount, the currency and the customer's address. Times
    are in local time, or in UTC with --json.
    """
    with opened(folder) as (read, recorded):
        if status is not None and status not in (known := known_statuses(read)):
            raise click.BadParameter(unknown("status", status, known), param_hint="--status")
        wanted = OrderFilter(status=status, email=email, since=since)
        # A person waits for the complete answer, so the number of read events has no limit.
        found = list_orders(read, wanted, limit=limit, most_searched=math.inf)
    if not found.orders and not recorded.has_events:
        raise RunnerError(OFF)
    orders = found.orders[::-1]
    if is_json:
        click.echo(json_text({"orders": list(map(summary_json, orders)), "more": found.older is not None}, indent=2))
        return
    if not orders:
        click.echo("no such orders" if status or email or since is not None else "no orders yet")
        return
    if found.older is not None:
        note = f"older orders are omitted; use --limit {2 * limit} to show more"
        click.secho(note, err=True, dim=sys.stderr.isatty())
    for line in _table(orders):
        click.echo(line)


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


def _table(orders: Sequence[OrderSummary]) -> Iterator[str]:
    form, length = clock_form(one.started for one in orders), prefix_length([one.order_id for one in orders])
    head = ("STARTED", "ORDER", "STATUS", "DECIDED AFTER", "AMOUNT", "E-MAIL", "OPEN")
    rows = [head, *(tuple(map(one_line, _cells(one, form, length))) for one in orders)]
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(head))]
    shown, left_out = fitting_columns(head, widths, terminal_width(), ("DECIDED AFTER", "AMOUNT", "E-MAIL", "OPEN"))
    for number, row in enumerate(rows):
        cells = {column: row[column] + " " * (widths[column] - width_of(row[column])) for column in shown}
        if has_colour():
            style = {"fg": _status_colour(orders[number - 1])} if number else {"bold": True}
            cells[2] = click.style(cells[2], **style)
        yield GAP.join(cells.values()).rstrip()
    if left_out:
        yield no_room(left_out)


def _cells(one: OrderSummary, form: str, length: int) -> tuple[str, ...]:
    decided = "-" if one.decided is None else duration(one.decided)
    amount = " ".join(text for text in (one.amount, one.currency) if text) or "-"
    return (
        clock(one.started, form), one.order_id[:length], one.status, decided, amount, one.email or "-", open_work(one)
    )  # fmt: skip


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


def _status_colour(found: OrderHistory | OrderSummary) -> str:
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
