"""One order as a swimlane: a row for each queue, with the times in which messages waited and handlers ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class BarKind(StrEnum):
    """The event or wait that a bar shows."""

    QUEUED = "queued"
    ATTEMPT = "attempt"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True)
class TimeBar:
    """A part of a row: a message waited, or a handler ran. Times are in milliseconds since the order started."""

    kind: BarKind
    begin: int
    #: None if the message still waits.
    end: int | None
    #: The number of the entry in the order history that reports the end of the bar, starting at 0.
    step: int | None
    #: The outcome of an attempt, as in the order history. Empty for other bars.
    outcome: str
    #: A label of two or three words, and a sentence.
    text: str
    sentence: str
    #: Bars that overlap in time are on different tracks of their row.
    track: int = 0

    @property
    def length(self) -> int:
        """The length in milliseconds, or 0 if the message still waits."""
        return 0 if self.end is None else self.end - self.begin


@dataclass(frozen=True)
class TimeMark:
    """A moment in a row, at which an event was published, or a message was replayed or discarded."""

    kind: str
    at: int
    #: As in ``TimeBar``.
    step: int | None
    text: str
    track: int = 0


@dataclass(frozen=True)
class CauseLine:
    """A line from the mark of an event to the queue that got a copy of the event."""

    at: int
    #: The indexes of both rows.
    source: int
    target: int
    #: The track of the copy in its row.
    track: int


@dataclass
class SwimlaneRow:
    """A row of the swimlane. A service that publishes without a message has a row without a queue."""

    service: str
    queue: str
    bars: list[TimeBar] = field(default_factory=list)
    marks: list[TimeMark] = field(default_factory=list)
    tracks: int = 1

    @property
    def first(self) -> int:
        """The time at which the row begins."""
        return min([one.begin for one in self.bars] + [one.at for one in self.marks], default=0)


@dataclass(frozen=True)
class Swimlane:
    """All rows of an order, in the order in which they begin."""

    rows: Sequence[SwimlaneRow]
    lines: Sequence[CauseLine]

    @property
    def end(self) -> int:
        """The last recorded time, in milliseconds since the order started."""
        times = [one.begin if one.end is None else one.end for row in self.rows for one in row.bars]
        return max([0, *times, *(one.at for row in self.rows for one in row.marks)])

    @property
    def is_open(self) -> bool:
        """True if a message still waits."""
        return any(one.end is None for row in self.rows for one in row.bars)
