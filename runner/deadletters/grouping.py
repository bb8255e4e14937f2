"""Groups of dead letters by fingerprint, which keep a list of thousands of messages readable."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.deadletters.dead_letter import DeadLetter, without_id
from runner.deadletters.fingerprint import Cause, cause_of, kind_of

#: The minimum length of a shortened id, and the maximum length of an id that is always shown in full.
LEAST_PREFIX, SHORT_ID = 8, 16
#: The histogram of the last hour: the number of bars, and the seconds of one bar.
BARS, BAR_SECONDS = 12, 300
#: The maximum number of error kinds that are counted in a group.
MOST_KINDS = 100


@dataclass(slots=True)
class DeadLetterGroup:
    """Dead letters with the same fingerprint."""

    queue: str
    #: The queue in which the messages failed, or None if it is unknown.
    origin: str | None
    cause: Cause
    #: The error of the latest message, including ids and numbers.
    error: str
    count: int = 0
    #: The kinds of errors in the group. If a plugin raises different errors in one line, a group has several kinds.
    kinds: set[str] = field(default_factory=set)
    #: The smallest and the largest number of attempts, or None if no message has a number.
    attempts: tuple[int, int] | None = None
    #: The smallest and the largest number of replays.
    replays: tuple[int, int] | None = None
    #: The times of the first and the last dead-lettering in seconds since the epoch, or None if no message has a time.
    first: float | None = None
    last: float | None = None
    #: The number of messages that were dead-lettered in each of the last BARS intervals of BAR_SECONDS, oldest first.
    last_hour: list[int] = field(default_factory=lambda: [0] * BARS)
    #: The id of the latest message.
    example: str = ""

    @property
    def title(self) -> str:
        """The error without the id of the latest message."""
        return without_id(self.error, self.example)


class GroupedDeadLetters:
    """Groups of dead letters, which are counted during reading. Only the message ids are stored."""

    def __init__(self, now: float | None = None) -> None:
        """``now`` is the end of the histogram in seconds since the epoch. The default is the current time."""
        self._now = time.time() if now is None else now
        self._groups: dict[str, DeadLetterGroup] = {}
        self._ids: list[str] = []

    def add(self, message: DeadLetter, origin: str | None) -> None:
        """Count one message."""
        error, at, name, cause = message.error, message.dead_lettered_at, message.id, cause_of(message, origin)
        self._ids.append(name)
        group = self._groups.get(cause.fingerprint)
        if group is None:
            group = self._groups[cause.fingerprint] = DeadLetterGroup(message.queue, origin, cause, error)
        group.count += 1
        if len(group.kinds) < MOST_KINDS:
            group.kinds.add(kind_of(error))
        if message.attempts:
            group.attempts = _widened(group.attempts, message.attempts)
        group.replays = _widened(group.replays, message.replays)
        if at is not None and (group.first is None or at < group.first):
            group.first = at
        if at is not None and (group.last is None or at >= group.last):
            group.last, group.example, group.error = at, name, error
        # The clocks of two machines may differ, so a message may seem to be dead-lettered a little later than now.
        if at is not None and -BAR_SECONDS < (age := self._now - at) < BARS * BAR_SECONDS:
            group.last_hour[BARS - 1 - int(max(0.0, age) / BAR_SECONDS)] += 1
        group.example = group.example or name

    @property
    def count(self) -> int:
        """The number of counted messages."""
        return len(self._ids)

    def groups(self) -> list[DeadLetterGroup]:
        """Return the groups sorted by origin, the largest group of each origin first."""
        return sorted(
            self._groups.values(), key=lambda one: (one.origin is None, one.origin or "", one.queue, -one.count)
        )

    def prefixes(self, ids: Sequence[str]) -> list[str]:
        """Return the shortest prefix of each id that is unique among all dead letters, as git does for commits."""
        ordered = sorted(set(self._ids))
        return [one[: _needed(ordered, one)] for one in ids]


def _widened(span: tuple[int, int] | None, number: int) -> tuple[int, int]:
    return (number, number) if span is None else (min(span[0], number), max(span[1], number))


def _needed(ordered: list[str], one: str) -> int:
    if len(one) <= SHORT_ID:
        return len(one)
    place = bisect_left(ordered, one)
    beside = [ordered[at] for at in (place - 1, place + 1) if 0 <= at < len(ordered)]
    return max([LEAST_PREFIX, *(_common(one, other) + 1 for other in beside)])


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
