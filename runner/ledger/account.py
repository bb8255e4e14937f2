"""The account of one queue: its figures add up to what was published to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from runner.ledger.recorded_fates import Published


@dataclass(frozen=True)
class AccountedQueue:
    """One queue that a service reads, and how it is known what was handled there."""

    queue: str
    services: tuple[str, ...] = ()
    dead_letter: str | None = None
    #: Whether the one who reads it writes every event down, so that each that is written down was handled.
    is_audit: bool = False
    #: From when on everything that is handled is written down, in ms since the epoch; None where it is not.
    known_from: int | None = None
    #: The services that have an inbox.
    inboxes: tuple[str, ...] = ()
    #: Whether it refuses what is more than its ``max-length`` allows.
    is_limited: bool = False


@dataclass(frozen=True)
class Row:
    """The figures of one type of event in one queue; None for what cannot be known."""

    type: str
    published: int
    handled: int | None
    parked: int
    discarded: int
    waiting: int | None
    lost: int
    twice: int


@dataclass(eq=False)
class Account:
    """The account of one queue. What is missing is waiting as far as something waits, and lost beyond that."""

    place: AccountedQueue
    #: What was published to it, by id.
    entries: dict[str, Published]
    #: Those that a service may not have sent yet, as the message that they are made of is not done.
    pending: set[str] = field(default_factory=set)
    handled: set[str] = field(default_factory=set)
    parked: set[str] = field(default_factory=set)
    #: Parked, and taken up by the service that reads the dead-letter queue.
    passed: set[str] = field(default_factory=set)
    discarded: set[str] = field(default_factory=set)
    #: Handled more than once, and those of them that an inbox should have kept from it.
    twice: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    #: What counts as lost. Where something waits nobody knows which: then the oldest do, as a queue gives the oldest
    #: first, and ``candidates`` has all of which so many are lost.
    lost: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: How many messages wait in its queue and its wait queues, and how many are in somebody's hands.
    ready: int = 0
    unacked: int = 0

    @property
    def queue(self) -> str:
        """Its queue's name."""
        return self.place.queue

    @property
    def is_known(self) -> bool:
        """Whether it is known what was handled."""
        return self.place.known_from is not None

    @property
    def found(self) -> set[str]:
        """The ids that are handled, parked or discarded."""
        return self.handled | self.parked | self.passed | self.discarded

    @property
    def missing(self) -> list[str]:
        """The ids that are neither handled nor parked nor discarded, the oldest first."""
        if not self.is_known:
            return []
        done = self.found | self.pending
        return sorted((id for id in self.entries if id not in done), key=lambda id: (self.entries[id].at, id))

    def lose(self, waiting: int) -> None:
        """Call lost what is missing beyond ``waiting`` messages."""
        missing = self.missing
        self.lost = missing[: max(0, len(missing) - waiting)]
        self.candidates = missing if self.lost and waiting else []

    def rows(self) -> list[Row]:
        """The figures, by type."""
        by_type: dict[str, set[str]] = defaultdict(set)
        for id, entry in self.entries.items():
            if id not in self.pending:
                by_type[entry.type].add(id)
        return [self._row(type, by_type[type]) for type in sorted(by_type)]

    def _row(self, type: str, ids: set[str]) -> Row:
        handled = ids & self.handled
        parked = (ids & (self.parked | self.passed)) - handled
        discarded = (ids & self.discarded) - handled - parked
        lost = len(ids.intersection(self.lost))
        waiting = len(ids) - len(handled) - len(parked) - len(discarded) - lost
        twice = len(ids & self.twice)
        if not self.is_known:
            return Row(type, len(ids), None, len(parked), len(discarded), None, 0, twice)
        return Row(type, len(ids), len(handled), len(parked), len(discarded), waiting, lost, twice)
