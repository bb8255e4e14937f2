"""The account of each queue: what was published to it is handled, parked, discarded or waiting, or else it is lost.

Pure: what is known comes from ``runner.store.known``, from the dead-letter queues and from the broker's counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runner.store.known import Fate, Fates, Inbox, Published
from runner.topology.arrival import Arrivals


@dataclass(frozen=True)
class Place:
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


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that lies in a dead-letter queue."""

    type: str
    order_id: str | None
    #: When it was published, in milliseconds since the epoch; None where nothing tells it.
    at: int | None = None


@dataclass(frozen=True)
class Known:
    """All that is known of messages."""

    #: By id; what audit wrote down stands for what others tell of the same event.
    events: Mapping[str, Published]
    #: Those that audit wrote down.
    audited: frozenset[str]
    fates: Fates
    inboxes: Mapping[tuple[str, str], Inbox]
    #: By the queue in which they failed, then by id.
    parked: Mapping[str, Mapping[str, Parked]]


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


@dataclass
class Account:
    """The account of one queue. What is missing is waiting as far as something waits, and lost beyond that."""

    place: Place
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
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: How many messages wait in its queue and its wait queues, and how many are in somebody's hands.
    ready: int = 0
    in_hand: int = 0

    @property
    def queue(self) -> str:
        """Its queue's name."""
        return self.place.queue

    @property
    def is_known(self) -> bool:
        """Whether it is known what was handled."""
        return self.place.known_from is not None

    @property
    def missing(self) -> list[str]:
        """The ids that are neither handled nor parked nor discarded, the oldest first."""
        if not self.is_known:
            return []
        done = self.handled | self.parked | self.passed | self.discarded | self.pending
        return sorted((id for id in self.entries if id not in done), key=lambda id: (self.entries[id].at, id))

    def lose(self, waiting: int) -> None:
        """Call lost what is missing beyond ``waiting`` messages.

        The oldest, since a queue gives the oldest first; so it says, where it is not sure which.
        """
        missing = self.missing
        self.lost = missing[: max(0, len(missing) - waiting)]
        if self.lost and waiting:
            self.notes.append(
                f"{len(self.lost)} of {len(missing)} that are missing are lost; the oldest are named, as what waits"
                " cannot be told by its id"
            )

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


def accounts(places: Sequence[Place], known: Known, arrivals: Arrivals, since: int | None = None) -> list[Account]:
    """The account of each queue, of what was published at ``since`` (ms since the epoch) or later."""
    coming: dict[str, list[tuple[Published, int | None]]] = defaultdict(list)
    wanted = {place.queue for place in places}
    for event in known.events.values():
        if since is None or event.at >= since:
            for queue, start in arrivals.of(event.exchange, event.key).items():
                if queue in wanted:
                    coming[queue].append((event, start))
    return [_account(place, known, coming[place.queue], arrivals, since) for place in places]


def _account(
    place: Place, known: Known, coming: Sequence[tuple[Published, int | None]], arrivals: Arrivals, since: int | None
) -> Account:
    account = Account(place, {})
    first: dict[str, int] = {}
    # What was seen in a queue came to it, however.
    for entry in _seen(place, known):
        if since is None or entry.at >= since:
            account.entries[entry.id] = entry
        first[entry.type] = min(entry.at, first.get(entry.type, entry.at))
    if place.is_audit:
        for event, _ in coming:
            if event.id in known.audited:
                account.entries[event.id] = event
                first[event.type] = min(event.at, first.get(event.type, event.at))
    early, unknown = 0, 0
    for event, start in coming:
        if event.id in account.entries:
            continue
        begin = first.get(event.type) if start is None else start
        if begin is None or event.at < begin:
            unknown += start is None
        elif event.at < (place.known_from or 0):
            early += 1
        else:
            account.entries[event.id] = event
    refresh(account, known)
    _explain(account, arrivals, early, unknown)
    return account


def refresh(account: Account, known: Known) -> None:
    """Look again what became of the messages of an account."""
    place, entries = account.place, account.entries
    fates = known.fates.get(place.queue, {})
    mine = [(known.inboxes.get((service, place.queue)), service) for service in place.services]
    account.handled |= {id for id, fate in fates.items() if fate.is_handled and id in entries}
    for inbox, _ in mine:
        account.handled |= entries.keys() & (inbox.done.keys() if inbox is not None else ())
    if place.is_audit:
        account.handled |= entries.keys() & known.audited
    account.discarded |= {id for id, fate in fates.items() if fate.is_discarded and id in entries}
    account.parked = entries.keys() & known.parked.get(place.queue, {}).keys()
    if place.dead_letter is not None:
        # Where a service reads the dead-letter queue, what it had is an account of its own.
        behind = known.fates.get(place.dead_letter, {}).keys()
        account.passed |= entries.keys() & {*behind, *_ids_in_inboxes(known, place.dead_letter)}
    account.twice |= {id for id, fate in fates.items() if len(fate.handled) > 1 and fate.is_twice() and id in entries}
    account.wrong |= {
        id
        for inbox, service in mine
        if inbox is not None and service in place.inboxes
        for id in fates.keys() & account.twice & inbox.done.keys()
        if fates[id].is_wrong(inbox, inbox.done[id])
    }


def _ids_in_inboxes(known: Known, queue: str) -> Iterable[str]:
    return (id for (_, name), inbox in known.inboxes.items() if name == queue for id in inbox.done)


def _seen(place: Place, known: Known) -> Iterable[Published]:
    fates: Mapping[str, Fate] = known.fates.get(place.queue, {})
    parked = known.parked.get(place.queue, {})
    ids = {*fates, *parked}
    for service in place.services:
        inbox = known.inboxes.get((service, place.queue))
        ids |= inbox.done.keys() if inbox is not None else frozenset()
    for id in ids:
        event, seen = known.events.get(id), fates.get(id) or parked.get(id)
        if event is not None:
            yield event
        elif seen is not None:
            yield Published(id, seen.type, seen.order_id, seen.at or 0)
        else:
            yield Published(id, "", None, 0)


def _explain(account: Account, arrivals: Arrivals, early: int, unknown: int) -> None:
    if account.queue in arrivals.untold:
        account.notes.append("headers choose what comes here: only what was tried or parked is counted as published")
    if unknown:
        account.notes.append(
            f"{unknown} more may have come here and are not counted: since when it gets them is not remembered, and it"
            " had none of their type before"
        )
    if early:
        account.notes.append(f"{early} more are not counted: what was handled was not written down yet then")
