"""The account of one queue, whose figures add up to the number of published messages."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from runner.ledger.recorded_fates import Published


@dataclass(frozen=True)
class AccountedQueue:
    """A queue that services consume, with the sources of records about its handled messages."""

    queue: str
    services: tuple[str, ...] = ()
    dead_letter: str | None = None
    #: True if the consumer records every event, so that each recorded event counts as handled.
    is_audit: bool = False
    #: The time from which all handled messages are recorded, in milliseconds since the epoch, or None if handled
    #: messages are not recorded.
    known_from: int | None = None
    #: The consuming services that have an inbox.
    inboxes: tuple[str, ...] = ()
    #: True if the queue has a length limit, beyond which it may reject messages.
    is_limited: bool = False


@dataclass(frozen=True)
class Row:
    """The figures for one event type in one queue. An unknown figure is None."""

    type: str
    published: int
    handled: int | None
    dead_lettered: int
    discarded: int
    waiting: int | None
    lost: int
    twice: int


@dataclass(eq=False)
class Account:
    """The account of one queue. A missing message is either waiting in a queue or lost."""

    place: AccountedQueue
    #: The published messages by id.
    entries: dict[str, Published]
    #: The ids of events that may be unpublished, because the message whose handler returned the event is not
    #: acknowledged.
    pending: set[str] = field(default_factory=set)
    handled: set[str] = field(default_factory=set)
    dead_lettered: set[str] = field(default_factory=set)
    #: The ids of dead letters that a consumer of the dead-letter queue has received.
    consumed_dead_letters: set[str] = field(default_factory=set)
    discarded: set[str] = field(default_factory=set)
    #: The ids of messages that were handled more than once. ``wrong`` contains only the ids of messages whose repeated
    #: handling an inbox should have prevented.
    twice: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    #: The ids that are reported as lost. While messages are waiting, it is unknown which missing ids are lost. In that
    #: case, the oldest missing ids are reported, because a queue delivers the oldest messages first. ``candidates``
    #: contains all ids that may be lost.
    lost: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    #: Remarks that explain the figures to the user.
    notes: list[str] = field(default_factory=list)
    #: The numbers of ready and unacked messages in the queue and its retry queues.
    ready: int = 0
    unacked: int = 0

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self.place.queue

    @property
    def is_known(self) -> bool:
        """True if handled messages are recorded."""
        return self.place.known_from is not None

    @property
    def found(self) -> set[str]:
        """The ids of the messages that were handled, dead-lettered or discarded."""
        return self.handled | self.dead_lettered | self.consumed_dead_letters | self.discarded

    @property
    def missing(self) -> list[str]:
        """The ids of messages that were neither handled, dead-lettered nor discarded, oldest first."""
        if not self.is_known:
            return []
        done = self.found | self.pending
        return sorted((id for id in self.entries if id not in done), key=lambda id: (self.entries[id].at, id))

    def lose(self, waiting: int) -> None:
        """Mark the missing messages as lost, except for ``waiting`` messages."""
        missing = self.missing
        self.lost = missing[: max(0, len(missing) - waiting)]
        self.candidates = missing if self.lost and waiting else []

    def rows(self) -> list[Row]:
        """Return the figures for each event type, sorted by type."""
        by_type: dict[str, set[str]] = defaultdict(set)
        for id, entry in self.entries.items():
            if id not in self.pending:
                by_type[entry.type].add(id)
        return [self._row(type, by_type[type]) for type in sorted(by_type)]

    def _row(self, type: str, ids: set[str]) -> Row:
        handled = ids & self.handled
        dead_lettered = (ids & (self.dead_lettered | self.consumed_dead_letters)) - handled
        discarded = (ids & self.discarded) - handled - dead_lettered
        lost = len(ids.intersection(self.lost))
        waiting = len(ids) - len(handled) - len(dead_lettered) - len(discarded) - lost
        twice = len(ids & self.twice)
        if not self.is_known:
            return Row(type, len(ids), None, len(dead_lettered), len(discarded), None, 0, twice)
        return Row(type, len(ids), len(handled), len(dead_lettered), len(discarded), waiting, lost, twice)
