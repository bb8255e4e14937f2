"""Groups of dead letters by queue and error, which keep a list of thousands of messages readable."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from runner.deadletters.dead_letter import DeadLetter

#: The minimum length of a shortened id, and the maximum length of an id that is always shown in full.
LEAST_PREFIX, SHORT_ID = 8, 16
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def kind_of(error: str) -> str:
    """Return an error text without its UUIDs and numbers, which differ between messages."""
    return _NUMBER.sub("N", _UUID.sub("…", error))


@dataclass(slots=True)
class DeadLetterGroup:
    """Dead letters that failed in the same queue with the same kind of error."""

    queue: str
    #: The queue in which the messages failed, or None if it is unknown.
    origin: str | None
    #: The error of the latest message, including ids and numbers.
    error: str
    count: int = 0
    #: The times of the first and the last dead-lettering in seconds since the epoch, or None if no message has a time.
    first: float | None = None
    last: float | None = None
    #: The id of the latest message.
    example: str = ""


class GroupedDeadLetters:
    """Groups of dead letters, which are counted during reading. Only the message ids are stored."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, str], DeadLetterGroup] = {}
        self._ids: list[str] = []

    def add(self, message: DeadLetter, origin: str | None) -> None:
        """Count one message."""
        error, at, name = message.error, message.dead_lettered_at, message.id
        self._ids.append(name)
        key = (message.queue, origin, kind_of(error))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = DeadLetterGroup(message.queue, origin, error)
        group.count += 1
        if at is not None and (group.first is None or at < group.first):
            group.first = at
        if at is not None and (group.last is None or at >= group.last):
            group.last, group.example, group.error = at, name, error
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


def _needed(ordered: list[str], one: str) -> int:
    if len(one) <= SHORT_ID:
        return len(one)
    place = bisect_left(ordered, one)
    beside = [ordered[at] for at in (place - 1, place + 1) if 0 <= at < len(ordered)]
    return max([LEAST_PREFIX, *(_common(one, other) + 1 for other in beside)])


def _common(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
