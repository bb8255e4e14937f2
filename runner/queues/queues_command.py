"""The ``queues`` command, which shows the messages, consumers and rates of each queue as a table or as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from runner.admin.management import Management
from runner.admin.queue_counts import QueueCounts, look, watch
from runner.cli.status_command import duration
from runner.cli.table_columns import GAP, fitting_columns, no_room
from runner.cli.temporary_broker import broker_for
from runner.cli.terminal import has_colour, redrawn, terminal_width
from runner.config.error_detail import one_of
from runner.config.project import Project, load_project
from runner.errors import BrokerError
from runner.escape import escaped, json_text
from runner.invocation import invocation
from runner.queues.backlog import RESOLUTION, Age
from runner.queues.overview import GROWING, NO_CONSUMER, Backlog, Others, Overview, names_of
from runner.topology.plan import counted

#: Seconds between samples with --watch.
INTERVAL = 1.0
UNKNOWN, NOTHING = "?", "-"
_HEAD = (
    "QUEUE", "READY", "UNACKED", "CONSUMERS", "IN/S", "OUT/S", "OLDEST", "RETRY", "DEAD", "READ BY", "NOTE",
)  # fmt: skip
_RIGHT = range(1, 9)
#: The columns to omit on a narrow terminal, with the least useful column first.
_DISPENSABLE = ("READ BY", "UNACKED", "OUT/S", "IN/S", "RETRY", "OLDEST", "DEAD", "CONSUMERS")


@click.command(short_help="Show the messages, consumers and rates of every queue.")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--watch", "is_watching", is_flag=True, help="Refresh the table every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def queues(folder: Path, names: tuple[str, ...], is_watching: bool, as_json: bool) -> None:
    """Show the queues in topology.yaml, or the named queues, one per line. No messages are consumed.

    RETRY is the number of messages that are waiting for their next attempt. DEAD is the number of dead letters. OLDEST
    is the age of the oldest ready message. NOTE marks growing queues, and queues that have messages but no consumer.

    CONSUMERS counts the consumers of all programs. A worker first has one consumer with a small prefetch on each of its
    queues. It adds a second consumer with the rest of the prefetch when the first messages have caused no crash.

    READY, CONSUMERS, RETRY and DEAD are exact. The other numbers are statistics from RabbitMQ's HTTP API, and may be a
    few seconds old. An unknown number is shown as "?". With --watch and --json, prints one JSON object per line.
    """
    project = load_project(folder)
    unknown = [one for one in names if one not in names_of(project)]
    if unknown:
        text = f"unknown queue {unknown[0]!r}; {one_of(unknown[0], names_of(project))}"
        raise click.BadParameter(text, param_hint="QUEUE")
    with broker_for(project) as management_url:
        if not is_watching:
            reasons: dict[str, str] = {}
            url, overview = _overview(project, names, management_url)
            counts = look([url], overview.queues, reasons)[1] if overview.queues else {}
            _show(overview, counts, reasons, as_json=as_json)
            return
        while True:
            try:
                url, overview = _overview(project, names, management_url)
                watch(url, overview.queues, INTERVAL, partial(_show, overview, as_json=as_json, is_watching=True))
            except BrokerError as error:
                click.echo(json_text({"error": str(error)}) if as_json else redrawn(str(error)))
            sys.stdout.flush()
            time.sleep(INTERVAL)


def _overview(project: Project, names: tuple[str, ...], management_url: str | None) -> tuple[str, Overview]:
    """Return the address of the broker that answers, and the queues to show.

    Raises BrokerUnreachable, and BrokerRefused.
    """
    url = look(project.config.broker.url, [])[0]
    management = Management(url, project.config.broker.management or management_url)
    return url, Overview(project, management, names)


def _show(
    overview: Overview,
    counts: Mapping[str, QueueCounts | None],
    unknown: Mapping[str, str],
    *,
    as_json: bool,
    is_watching: bool = False,
) -> None:
    entries = overview.update(counts, unknown)
    if as_json:
        found = as_object(entries, overview.others, overview.problem)
        click.echo(json_text(found, indent=None if is_watching else 2))
    else:
        text = "\n".join(table(entries, overview.others, overview.problem))
        click.echo(redrawn(text) if is_watching else text)
    sys.stdout.flush()


def table(entries: Sequence[Backlog], others: Others | None, problem: str | None) -> list[str]:
    """Return the lines of the table, and a line about other queues or missing statistics."""
    rows = [_HEAD, *(_row(one) for one in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    shown, left_out = fitting_columns(_HEAD, widths, terminal_width(), _DISPENSABLE)
    lines = []
    for number, row in enumerate(rows):
        cells = [
            row[column].rjust(widths[column]) if column in _RIGHT else row[column].ljust(widths[column])
            for column in shown
        ]
        line = GAP.join(cells).rstrip()
        if has_colour() and number == 0:
            line = click.style(line, bold=True)
        elif has_colour() and _stands_out(entries[number - 1]):
            line = click.style(line, bold=True, fg="yellow")
        lines.append(line)
    if left_out:
        lines.append(no_room(left_out))
    if problem is not None:
        lines.append(f"no statistics: {escaped(problem)}")
    elif others is not None and others.count:
        held = counted(others.messages, "message")
        found = f"{counted(others.count, 'other queue')} on the broker, with {held}"
        lines.append(f"{found}; to list them: {invocation('plan')}")
    return lines


def _stands_out(one: Backlog) -> bool:
    return NO_CONSUMER in one.notes or GROWING in one.notes


def _row(one: Backlog) -> tuple[str, ...]:
    return (
        escaped(one.name),
        _count(one.ready),
        _count(one.unacked),
        _count(one.consumers),
        _rate(one.arriving),
        _rate(one.leaving),
        _age(one),
        _count(one.retrying),
        _count(one.dead) if one.has_dead_letters else NOTHING,
        ", ".join(one.services) or NOTHING,
        ", ".join(escaped(note) for note in one.notes),
    )


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _age(one: Backlog) -> str:
    if one.ready == 0:
        return NOTHING
    if one.oldest is None:
        return UNKNOWN
    if one.oldest.is_older:
        return f">{duration(one.oldest.seconds)}"
    return f"<{RESOLUTION:g}s" if one.oldest.seconds < RESOLUTION else duration(one.oldest.seconds)


def as_object(entries: Sequence[Backlog], others: Others | None, problem: str | None) -> dict[str, Any]:
    """Return the entries as one JSON object. Unknown values are null, and times are in seconds."""
    return {
        "queues": [
            {
                "queue": one.name,
                "ready": one.ready,
                "unacked": one.unacked,
                "consumers": one.consumers,
                "in_per_second": _rounded(one.arriving),
                "out_per_second": _rounded(one.leaving),
                "oldest": _oldest(one.oldest),
                "retrying": one.retrying,
                "dead_letters": one.dead,
                "services": list(one.services),
                "notes": list(one.notes),
            }
            for one in entries
        ],
        "others": None if others is None else {"queues": others.count, "messages": others.messages},
        "problem": problem,
    }


def _oldest(age: Age | None) -> dict[str, Any] | None:
    return None if age is None else {"seconds": round(age.seconds, 1), "is_older": age.is_older}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
