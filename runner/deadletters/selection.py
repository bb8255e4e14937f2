"""Which parked messages are meant: by id, by order, by a text, by the queue they failed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.deadletters.dead_letter import DeadLetter
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
