"""The selection of dead letters by id, order, text and queue: the options of commands, and the messages they match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.open_queues import OpenQueues
from runner.errors import RunnerError
from runner.headers import LAST_ERROR
from runner.invocation import invocation

#: How many candidates of an ambiguous id are listed.
MOST_CANDIDATES = 10


class NotDeadLettered(RunnerError):
    """No message on the desk is of that id."""


@dataclass(frozen=True)
class Selection:
    """What all of a command's options together say; a message must agree with each that is given."""

    #: Message ids, whole ones; None for all.
    ids: frozenset[str] | None = None
    #: What must stand in the error, the type, the id, the correlation id or the body, in capitals or not; None for
    #: anything.
    match: str | None = None
    #: The queue in which it failed; None for any.
    origin: str | None = None

    def takes(self, letter: DeadLetter, origin: str | None) -> bool:
        """Whether a message that failed in ``origin`` is meant."""
        if self.origin is not None and origin != self.origin:
            return False
        if self.ids is not None and letter.id not in self.ids:
            return False
        return self.match is None or _occurs(self.match, letter)


def _occurs(text: str, letter: DeadLetter) -> bool:
    sought = text.casefold()
    said = (letter.error, str(letter.headers.get(LAST_ERROR, "")), letter.type, letter.id, letter.correlation_id)
    # Bytes that are no UTF-8 come from a command line in the same way, so that they are found too.
    return any(sought in one.casefold() for one in (*said, letter.body.decode("utf-8", "surrogateescape")))


def resolve(
    beginnings: Sequence[str], ids: Iterable[str], orders: Mapping[str, Collection[str]] | None = None
) -> frozenset[str]:
    """The whole message ids that some beginnings stand for; one that is whole already is itself.

    ``orders`` has the message ids of each correlation id, which a beginning stands for where no message id begins so.
    Raises NotParked for one that nothing begins with, and RunnerError for one that is not clear.
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
                f"message id {beginning!r}: no parked message has it, nor as its correlation id; to see those that"
                f" are there: {invocation('dlq', 'list')}"
            )
        found.update((orders or {})[order])
    return frozenset(found)


def _only(kind: str, beginning: str, known: Collection[str]) -> str | None:
    """The one that begins so, or is so; None where none does."""
    if beginning in known:
        return beginning
    candidates = sorted(one for one in known if one.startswith(beginning))
    if len(candidates) > 1:
        listed = ", ".join(repr(one) for one in candidates[:MOST_CANDIDATES])
        more = f" and {len(candidates) - MOST_CANDIDATES} more" if len(candidates) > MOST_CANDIDATES else ""
        whose = "parked messages" if kind == "message id" else "orders of parked messages"
        raise RunnerError(f"{kind} {beginning!r}: {len(candidates)} {whose} begin with it; allowed: {listed}{more}")
    return candidates[0] if candidates else None


QUEUE = click.option(
    "--queue", metavar="Q", help="Only of this queue: the dead-letter queue, or the one they failed in."
)


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which messages it is about."""
    for option in (
        click.option(
            "--id", "ids", metavar="ID", multiple=True,
            help="This message, or all of this order (correlation id); may be shortened, and repeated.",
        ),
        click.option(
            "--match", metavar="TEXT",
            help="With this text in error, type, id, correlation id or body, in capitals or not.",
        ),
        QUEUE,
    ):  # fmt: skip
        command = option(command)
    return command


def begins(letter: DeadLetter, beginnings: Sequence[str]) -> bool:
    """Whether its id or its correlation id begins with one of these."""
    return letter.id.startswith(tuple(beginnings)) or letter.correlation_id.startswith(tuple(beginnings))


def check_selection(queue: str | None, match: str | None, ids: tuple[str, ...], everything: bool) -> None:
    """What changes something needs to be told what. Raises click.UsageError."""
    if not (everything or queue or match or ids):
        raise click.UsageError("which messages are meant is not said; allowed: --queue, --match, --id, or --all")
    if "" in ids:
        raise click.UsageError("--id: nothing is given; allowed: a message id, or the beginning of one")
    if everything and (match is not None or ids):
        raise click.UsageError("--all means every message; take it away, or --match and --id")


def whole_ids(there: OpenQueues, beginnings: Sequence[str], found: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The message ids that some beginnings stand for; ``found`` has message and correlation ids that begin so.

    Raises RunnerError for one that is not there, or not clear.
    """
    ids, orders = set(), dict[str, set[str]]()
    for one, order in found:
        ids.add(one)
        orders.setdefault(order, set()).add(one)
    try:
        return resolve(beginnings, ids, orders)
    except NotDeadLettered as error:
        if there.hidden:
            raise NotDeadLettered(f"{error}; but {_others(there)}") from None
        raise


def selection_of(there: OpenQueues, match: str | None, ids: tuple[str, ...], *, is_single: bool = False) -> Selection:
    """What is meant, with whole ids. Raises RunnerError for an id that is not there, or not clear."""
    if not ids:
        return Selection(None, match, there.origin)
    begun: Counter[tuple[str, str]] = Counter()

    def each(letter: DeadLetter, _: str | None) -> None:
        if begins(letter, ids):
            begun[letter.id, letter.correlation_id] += 1

    there.read(each, "looking for the ids")
    wanted = whole_ids(there, ids, begun)
    if is_single and len(wanted) > 1:
        listed = ", ".join(repr(one) for one in sorted(wanted)[:MOST_CANDIDATES])
        raise RunnerError(f"correlation id {ids[0]!r}: {len(wanted)} parked messages have it; allowed: one of {listed}")
    if is_single and (times := sum(count for (one, _), count in begun.items() if one in wanted)) > 1:
        raise RunnerError(
            f"message id {ids[0]!r}: it is parked {times} times; allowed: one, --queue says in which queue"
        )
    return Selection(wanted, match, there.origin)


def nothing(there: OpenQueues, done: str, selection: Selection, stayed: int = 0) -> str:
    """Why nothing was ``done``; ``stayed`` is how many stay that are meant."""
    if stayed:
        return f"nothing {done}: {'the 1 that is meant stays' if stayed == 1 else f'all {stayed} that are meant stay'}"
    if there.hidden:
        return f"nothing {done} for now: {_others(there)}"
    is_named = there.queue is not None and selection.ids is None and selection.match is None
    if there.total and not is_named:
        return f"nothing {done}: no parked message is meant"
    return f"nothing {done}: {empty(there)}"


def empty(there: OpenQueues) -> str:
    """That nothing is parked, of what ``--queue`` named."""
    return f"the desk is empty{f' for queue {there.queue}' if there.queue else ''}"


def unseen(there: OpenQueues) -> list[str]:
    """A line for each queue that looks empty while somebody else reads it."""
    return [f"nothing to see for now: {_reads(name)}, and may hold its messages" for name in there.hidden]


def _others(there: OpenQueues) -> str:
    many = "its" if len(there.hidden) == 1 else "their"
    return f"{_reads(', '.join(there.hidden))}, and may hold {many} messages"


def _reads(names: str) -> str:
    return f"somebody else reads {names}"
