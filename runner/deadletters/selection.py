"""The selection of dead letters by id, order, text and queue, with its command-line options."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.fingerprint import LENGTH, cause_of
from runner.deadletters.open_queues import OpenQueues
from runner.errors import RunnerError
from runner.headers import LAST_ERROR
from runner.invocation import invocation

#: The maximum number of candidates listed for an ambiguous id.
MOST_CANDIDATES = 10


class NotDeadLettered(RunnerError):
    """An error for an id that no dead letter has."""


@dataclass(frozen=True)
class Selection:
    """The conditions set by a command's options. A selected message meets every condition."""

    #: Full message ids, or None to select all messages.
    ids: frozenset[str] | None = None
    #: A text to find in the error, type, id, correlation id or body, ignoring case, or None to match any message.
    match: str | None = None
    #: The queue in which the message failed, or None for any queue.
    origin: str | None = None
    #: The fingerprint of a group, or None for all groups.
    fingerprint: str | None = None

    def matches(self, message: DeadLetter, origin: str | None) -> bool:
        """Return True if a message that failed in ``origin`` is selected."""
        if self.origin is not None and origin != self.origin:
            return False
        if self.ids is not None and message.id not in self.ids:
            return False
        if self.match is not None and not _occurs(self.match, message):
            return False
        return self.fingerprint is None or cause_of(message, origin).fingerprint == self.fingerprint

    @property
    def is_of_queue(self) -> bool:
        """True if the selection depends only on the queue."""
        return self.ids is None and self.match is None and self.fingerprint is None


def _occurs(text: str, message: DeadLetter) -> bool:
    sought = text.casefold()
    said = (message.error, str(message.headers.get(LAST_ERROR, "")), message.type, message.id, message.correlation_id)
    # Python decodes the command line in the same way, so a search can also find bytes that are not UTF-8.
    return any(sought in one.casefold() for one in (*said, message.body.decode("utf-8", "surrogateescape")))


def resolve(
    beginnings: Sequence[str], ids: Iterable[str], orders: Mapping[str, Collection[str]] | None = None
) -> frozenset[str]:
    """Return the full message ids for the given prefixes.

    ``orders`` contains the message ids for each correlation id. A prefix that matches no message id is looked up in
    ``orders``. Raises NotDeadLettered for a prefix that matches no id, and RunnerError for an ambiguous prefix.
    """
    known = set(ids)
    found: set[str] = set()
    for beginning in beginnings:
        one = _only("message id", beginning, known)
        if one is not None:
            found.add(one)
            continue
        order = _only("correlation id", beginning, orders or {})
        if order is None:
            raise NotDeadLettered(
                f"message id {beginning!r}: no dead letter has this message id or correlation id; to list the dead"
                f" letters: {invocation('dlq', 'list')}"
            )
        found.update((orders or {})[order])
    return frozenset(found)


def _only(kind: str, beginning: str, known: Collection[str]) -> str | None:
    """Return the id that equals a prefix, or else the only id with this prefix, or else None.

    Raises RunnerError if several ids match.
    """
    if beginning in known:
        return beginning
    candidates = sorted(one for one in known if one.startswith(beginning))
    if len(candidates) > 1:
        listed = ", ".join(repr(one) for one in candidates[:MOST_CANDIDATES])
        more = f" and {len(candidates) - MOST_CANDIDATES} more" if len(candidates) > MOST_CANDIDATES else ""
        owners = f"{len(candidates)} {'dead letters' if kind == 'message id' else 'orders'}"
        raise RunnerError(f"{kind} {beginning!r} is ambiguous; {owners} match: {listed}{more}")
    return candidates[0] if candidates else None


QUEUE = click.option(
    "--queue", metavar="QUEUE", help="Select messages in this dead-letter queue, or messages that failed in this queue."
)


def _fingerprint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and re.fullmatch(f"[0-9a-f]{{{LENGTH}}}", value) is None:
        raise click.BadParameter(
            f"not a fingerprint, {value!r}; allowed: {LENGTH} hexadecimal digits, as printed by dlq list"
        )
    return value


FINGERPRINT = click.option(
    "--fingerprint", metavar="ID", callback=_fingerprint,
    help="Select the group with this fingerprint, as printed by dlq list.",
)  # fmt: skip


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for selecting dead letters to a command."""
    for option in (
        click.option(
            "--id", "ids", metavar="ID", multiple=True,
            help="Select this message, or all messages of this order (correlation id). A unique prefix is enough."
            " Repeatable.",
        ),
        click.option(
            "--match", metavar="TEXT",
            help="Select messages that contain TEXT, ignoring case, in the error, type, id, correlation id or body.",
        ),
        FINGERPRINT,
        QUEUE,
    ):  # fmt: skip
        command = option(command)
    return command


#: The option of the commands that can show their progress to another program.
PROGRESS = click.option(
    "--progress", "shows_progress", is_flag=True,
    help="Show the progress on standard error. If standard error is not a terminal, print a line each second.",
)  # fmt: skip


def begins(message: DeadLetter, beginnings: Sequence[str]) -> bool:
    """Return True if the message id or the correlation id has one of the prefixes in ``beginnings``."""
    return message.id.startswith(tuple(beginnings)) or message.correlation_id.startswith(tuple(beginnings))


def check_selection(
    queue: str | None, match: str | None, fingerprint: str | None, ids: tuple[str, ...], everything: bool
) -> None:
    """Raise click.UsageError if the selection for a command that changes queues is missing or contradictory."""
    if not (everything or queue or match or fingerprint or ids):
        raise click.UsageError("no messages selected; use --queue, --match, --fingerprint, --id or --all")
    if "" in ids:
        raise click.UsageError("--id: empty; allowed: a message id, a correlation id, or a prefix")
    if everything and (match is not None or fingerprint is not None or ids):
        raise click.UsageError("--all selects every message; remove --all, or remove --match, --fingerprint and --id")


def whole_ids(there: OpenQueues, beginnings: Sequence[str], found: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the full message ids for the given prefixes. ``found`` contains the matching message and correlation ids.

    Raises RunnerError for an unknown or ambiguous id.
    """
    ids, orders = set(), dict[str, set[str]]()
    for one, order in found:
        ids.add(one)
        orders.setdefault(order, set()).add(one)
    try:
        return resolve(beginnings, ids, orders)
    except NotDeadLettered as error:
        if there.hidden:
            raise NotDeadLettered(f"{error}; but {_other_consumer(there.hidden)}") from None
        raise


def selection_of(
    there: OpenQueues, match: str | None, fingerprint: str | None, ids: tuple[str, ...], *, is_single: bool = False
) -> Selection:
    """Return the selection for these options, with full ids. Raises RunnerError for an unknown or ambiguous id."""
    if not ids:
        return Selection(None, match, there.origin, fingerprint)
    begun: Counter[tuple[str, str]] = Counter()

    def each(message: DeadLetter, _: str | None) -> None:
        if begins(message, ids):
            begun[message.id, message.correlation_id] += 1

    there.read(each, "looking for the ids")
    wanted = whole_ids(there, ids, begun)
    if is_single and len(wanted) > 1:
        listed = ", ".join(repr(one) for one in sorted(wanted)[:MOST_CANDIDATES])
        raise RunnerError(f"correlation id {ids[0]!r} is ambiguous; {len(wanted)} dead letters match: {listed}")
    if is_single and (times := sum(count for (one, _), count in begun.items() if one in wanted)) > 1:
        raise RunnerError(f"message id {ids[0]!r} is ambiguous, because {times} dead letters match; use --queue")
    return Selection(wanted, match, there.origin, fingerprint)


def nothing(there: OpenQueues, done: str, selection: Selection, stayed: int = 0) -> str:
    """Return the reason why a command has changed no message.

    ``done`` is the verb, such as "replayed". ``stayed`` is the number of selected messages that remain.
    """
    if stayed:
        which = "the selected message remains" if stayed == 1 else f"all {stayed} selected messages remain"
        return f"nothing {done}: {which} dead-lettered"
    if there.hidden:
        return f"nothing {done} for now: {_other_consumer(there.hidden)}"
    if there.total and not (there.queue is not None and selection.is_of_queue):
        return f"nothing {done}: no dead letter matches the selection"
    return f"nothing {done}: {empty(there)}"


def empty(there: OpenQueues) -> str:
    """Return the text for a command that finds no dead letters. The text names the queue from ``--queue``."""
    return f"no dead letters{f' for queue {there.queue}' if there.queue else ''}"


def unseen(there: OpenQueues) -> list[str]:
    """Return a line for each queue that appears empty although another consumer may have messages from it."""
    return [f"no visible dead letters: {_other_consumer([name])}" for name in there.hidden]


def _other_consumer(queues: Sequence[str]) -> str:
    return f"another consumer of {', '.join(queues)} may be holding all messages unacked"
