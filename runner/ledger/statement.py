"""The ledger output as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from runner.cli.terminal import has_colour
from runner.config.project import Project
from runner.escape import one_line
from runner.history.access import width_of
from runner.invocation import invocation
from runner.ledger.account import Account, Row
from runner.topology.model import Objects

#: The maximum number of ids per queue in the text output.
MOST_SHOWN = 10
_HEAD = ("QUEUE", "EVENT", "PUBLISHED", "HANDLED", "DEAD-LETTERED", "DISCARDED", "WAITING", "LOST", "TWICE")


def unread_queues(project: Project, objects: Objects) -> list[str]:
    """Return the queues in topology.yaml that no service consumes, except dead-letter queues."""
    dead = {ladder.dead_letter for ladder in objects.retry_delays.values()}
    return [name for name in project.topology.queues if name not in project.consumed and name not in dead]


def as_json_object(
    found: Sequence[Account], unread: Sequence[str], unapplied: Sequence[str], *, is_settled: bool
) -> dict[str, Any]:
    """Return all accounts as JSON values with all ids. ``unread`` contains the queues that no service consumes."""

    def ids(one: Account, some: Sequence[str]) -> list[dict[str, Any]]:
        return [{"id": id, "order_id": one.entries[id].order_id, "type": one.entries[id].type} for id in some]

    queues: list[dict[str, Any]] = [
        {
            "queue": one.queue,
            "events": [{name: getattr(row, name) for name in Row.__dataclass_fields__} for row in one.rows()],
            # While it is unknown which candidates are lost, no waiting message may be listed as lost.
            "lost": [] if one.candidates else ids(one, one.lost),
            "candidates": ids(one, one.candidates),
            "twice": ids(one, sorted(one.twice)),
            "note": "; ".join(one.notes),
        }
        for one in found
    ]
    nothing: dict[str, Any] = {"events": [], "lost": [], "candidates": [], "twice": []}
    queues += [{"queue": name, **nothing, "note": "no service consumes this queue"} for name in unread]
    lost, twice = sum(len(one.lost) for one in found), sum(len(one.twice) for one in found)
    return {"queues": queues, "unapplied": [*unapplied], "lost": lost, "twice": twice, "settled": is_settled}


def statement(
    found: Sequence[Account], unread: Sequence[str], unapplied: Sequence[str], *, is_settled: bool
) -> Iterator[str]:
    """Yield the lines of the text output: a table, remarks, the ids of lost or repeated messages, and the verdict."""
    cells = [(one, row) for one in found for row in one.rows()]
    if cells:
        yield from _table(cells)
    for one in found:
        for note in one.notes:
            yield one_line(f"queue {one.queue}: {note}")
    for name in unread:
        yield one_line(f"queue {name}: no service consumes this queue")
    yield from map(one_line, unapplied)
    for one in found:
        if one.candidates:
            yield from _named(one, f"{len(one.lost)} of these {len(one.candidates)} messages lost in", one.candidates)
        else:
            yield from _named(one, "lost in", one.lost)
        yield from _named(one, "handled more than once in", sorted(one.twice))
    yield from _advice(found)
    yield _verdict(found, is_settled=is_settled)


def _table(cells: Sequence[tuple[Account, Row]]) -> Iterator[str]:
    def shown(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    rows = [_HEAD]
    for one, row in cells:
        figures = (row.published, row.handled, row.dead_lettered, row.discarded, row.waiting, row.lost, row.twice)
        rows.append((one_line(one.queue), one_line(row.type) or "-", *map(shown, figures)))  # type: ignore[arg-type]
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(_HEAD))]
    for number, line in enumerate(rows):
        texts = [
            text + " " * (width - width_of(text)) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        if has_colour() and number and line[7] not in ("0", "-"):
            texts[7] = click.style(texts[7], fg="red", bold=True)
        yield "  ".join(texts)


def _named(one: Account, what: str, ids: Sequence[str]) -> Iterator[str]:
    if not ids:
        return
    yield one_line(f"{what} {one.queue}:")
    for id in ids[:MOST_SHOWN]:
        entry = one.entries[id]
        yield one_line(f"  {id}  {entry.type or '-'}  order {entry.order_id or '-'}")
    if len(ids) > MOST_SHOWN:
        yield f"  … and {len(ids) - MOST_SHOWN:,} more; use --json to list all"


def _advice(found: Sequence[Account]) -> Iterator[str]:
    if not any(row.lost for one in found if one.is_known for row in one.rows()):
        return
    yield "possible cause: another client purged or deleted the queue, or acknowledged messages without handling them"
    yield "the events table still contains the lost events; use --since to exclude older losses"
    orders = (one.entries[id].order_id for one in found for id in one.lost)
    if (order := next((id for id in orders if id and one_line(id) == id), None)) is not None:
        yield f"to show the history of the first order: {invocation('order', 'history', order)}"


def _verdict(found: Sequence[Account], *, is_settled: bool) -> str:
    rows = [row for one in found if one.is_known for row in one.rows()]
    names = ("handled", "dead_lettered", "discarded", "waiting", "lost")
    sums = {name: sum(getattr(row, name) for row in rows) for name in names}
    parts = [f"{sums[name]:,} {name.replace('_', '-')}" for name in names if sums[name]] or ["0"]
    equation = f"{sum(row.published for row in rows):,} published = {' + '.join(parts)}"
    wrong = sum(len(one.wrong) for one in found)
    words, colour = "nothing is lost", "green"
    if not any(one.is_known for one in found):
        words, colour = "nothing is proved", "yellow"
    if not is_settled:
        words, colour = "not sure yet", "yellow"
    if sums["lost"]:
        words, colour = f"{sums['lost']:,} lost", "red"
    if wrong:
        words, colour = f"{words}, {wrong:,} handled twice despite an inbox", "red"
    line = f"{words}: {equation}"
    return click.style(line, fg=colour, bold=True) if has_colour() else line
