"""Parked messages by where and why: what of a full desk a person can read."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from runner.deadletters.dead_letter import DeadLetter

#: An id is never shown shorter than this, and one that is not much longer is shown whole.
LEAST_PREFIX, SHORT_ID = 8, 16
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def kind_of(error: str) -> str:
    """An error without the ids and numbers that make it another one for each message."""
    return _NUMBER.sub("N", _UUID.sub("…", error))


@dataclass(slots=True)
class DeadLetterGroup:
    """The messages of one origin and one kind of error."""

    queue: str
    #: None where nothing tells it.
    origin: str | None
    #: That of the latest, in its own words.
    error: str
    count: int = 0
    #: Seconds since the epoch; None where no message tells it.
    first: float | None = None
    last: float | None = None
    #: The id of the latest.
    example: str = ""


class GroupedDeadLetters:
    """Counts messages as they are read; keeps their ids, and nothing else of them."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, str], DeadLetterGroup] = {}
        self._ids: list[str] = []

    def add(self, letter: DeadLetter, origin: str | None) -> None:
        """Count one message."""
        error, at, name = letter.error, letter.parked_at, letter.id
        self._ids.append(name)
        key = (letter.queue, origin, kind_of(error))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = DeadLetterGroup(letter.queue, origin, error)
        group.count += 1
        if at is not None and (group.first is None or at < group.first):
            group.first = at
        if at is not None and (group.last is None or at >= group.last):
            group.last, group.example, group.error = at, name, error
        group.example = group.example or name

    @property
    def count(self) -> int:
        """How many messages were counted."""
        return len(self._ids)

    def groups(self) -> list[DeadLetterGroup]:
        """The groups: by origin, the largest first."""
        return sorted(
            self._groups.values(), key=lambda one: (one.origin is None, one.origin or "", one.queue, -one.count)
        )

    def prefixes(self, ids: Sequence[str]) -> list[str]:
        """For each of some ids the shortest beginning that no other id on the desk has; as git shortens its own."""
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
