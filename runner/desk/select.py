"""Which parked messages are meant: by id, by a text, by the queue they failed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.desk.letter import Letter
from runner.errors import RunnerError

#: How many candidates of an ambiguous id are listed.
MOST_CANDIDATES = 10


@dataclass(frozen=True)
class Selection:
    """What all of a command's options together say; a message must agree with each that is given."""

    #: Message ids, whole ones; None for all.
    ids: frozenset[str] | None = None
    #: What must stand in the error, the type, the id, the correlation id or the body; None for anything.
    match: str | None = None
    #: The queue in which it failed; None for any.
    origin: str | None = None

    def takes(self, letter: Letter, origin: str | None) -> bool:
        """Whether a message that failed in ``origin`` is meant."""
        if self.origin is not None and origin != self.origin:
            return False
        if self.ids is not None and letter.id not in self.ids:
            return False
        return self.match is None or _occurs(self.match, letter)


def _occurs(text: str, letter: Letter) -> bool:
    said = (letter.error, str(letter.headers.get("x-last-error", "")), letter.type, letter.id, letter.correlation_id)
    return any(text in one for one in said) or text.encode("utf-8", "surrogateescape") in letter.body


def resolve(beginnings: Sequence[str], ids: Iterable[str]) -> frozenset[str]:
    """The whole ids that some beginnings stand for; an id that is whole already is itself.

    Raises RunnerError for one that none, or more than one, begins with.
    """
    known = set(ids)
    found = set()
    for beginning in beginnings:
        candidates = [beginning] if beginning in known else sorted(one for one in known if one.startswith(beginning))
        if not candidates:
            raise RunnerError(f"message id {beginning!r}: no parked message has it; list shows those that are there")
        if len(candidates) > 1:
            listed = ", ".join(repr(one) for one in candidates[:MOST_CANDIDATES])
            more = f" and {len(candidates) - MOST_CANDIDATES} more" if len(candidates) > MOST_CANDIDATES else ""
            raise RunnerError(
                f"message id {beginning!r}: {len(candidates)} parked messages begin with it; allowed: {listed}{more}"
            )
        found.add(candidates[0])
    return frozenset(found)
