"""Which parked messages a command is about: the options that say so, and what they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import click

from runner.cli.dlq.desk import Opened
from runner.desk.letter import Letter
from runner.desk.select import Selection, resolve
from runner.errors import RunnerError

QUEUE = click.option(
    "--queue", metavar="Q", help="Only of this queue: the dead-letter queue, or the one they failed in."
)


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which messages it is about."""
    for option in (
        click.option("--id", "ids", metavar="ID", multiple=True, help="This message, or the one that alone begins so."),
        click.option("--match", metavar="TEXT", help="With this text in error, type, id, correlation id or body."),
        QUEUE,
    ):
        command = option(command)
    return command


def begins(letter: Letter, beginnings: Sequence[str]) -> bool:
    """Whether its id begins with one of these."""
    return letter.id.startswith(tuple(beginnings))


def check_selection(queue: str | None, match: str | None, ids: tuple[str, ...], everything: bool) -> None:
    """What changes something needs to be told what. Raises click.UsageError."""
    if not (everything or queue or match or ids):
        raise click.UsageError("which messages are meant is not said; allowed: --queue, --match, --id, or --all")
    if "" in ids:
        raise click.UsageError("--id: nothing is given; allowed: a message id, or the beginning of one")
    if everything and (match is not None or ids):
        raise click.UsageError("--all means every message; take it away, or --match and --id")


def selection_of(there: Opened, match: str | None, ids: tuple[str, ...], *, is_single: bool = False) -> Selection:
    """What is meant, with whole ids. Raises RunnerError for an id that is not there, or not clear."""
    if not ids:
        return Selection(None, match, there.origin)
    begun: Counter[str] = Counter()
    there.read(lambda letter, _: begun.update([letter.id]) if begins(letter, ids) else None, "looking for the ids")
    wanted = resolve(ids, begun)
    if is_single and (times := sum(begun[one] for one in wanted)) > 1:
        raise RunnerError(
            f"message id {ids[0]!r}: it is parked {times} times; allowed: one, --queue says in which queue"
        )
    return Selection(wanted, match, there.origin)


def nothing(there: Opened, done: str) -> str:
    """Why nothing was ``done``."""
    return f"nothing {done}: no parked message is meant" if there.total else f"nothing {done}: the desk is empty"
