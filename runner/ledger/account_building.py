"""Builds the account of each queue from rows of the database, dead letters and counts of the broker.

Pure. ``loss_detection`` decides which missing messages are lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runner.ledger.account import Account, AccountedQueue
from runner.ledger.expected_queues import ExpectedQueues, OpenRoute
from runner.ledger.recorded_fates import Fate, Fates, InboxRows, Names, Published

#: Why events are not counted, after how many they are.
_UNKNOWN = (
    "more may have come here and are not counted: since when it gets them is not remembered, and it had none of their"
    " type before"
)
_BEFORE = "published before the binding was there, and not handled: not counted"
_EARLY = "more are not counted: what was handled was not written down yet then"
_UNSENT = "more are not counted: the outbox has no confirm of them yet, and sends them again"


@dataclass(frozen=True, slots=True)
class KnownDeadLetter:
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
    inboxes: Mapping[tuple[str, str], InboxRows]
    #: By the queue in which they failed, then by id.
    parked: Mapping[str, Mapping[str, KnownDeadLetter]]
    #: Those that an outbox holds until the broker confirms them.
    unsent: frozenset[str] = frozenset()
    #: The present names of renamed queues, by their former names.
    renamed: Names = field(default_factory=dict)


def accounts(
    places: Sequence[AccountedQueue], known: Known, arrivals: ExpectedQueues, since: int | None = None
) -> list[Account]:
    """The account of each queue, of what was published at ``since`` (ms since the epoch) or later."""
    coming: dict[str, list[tuple[Published, OpenRoute]]] = defaultdict(list)
    wanted = {place.queue for place in places}
    for event in known.events.values():
        if since is None or event.at >= since:
            for queue, way in arrivals.of(event.exchange, event.key).items():
                if queue in wanted:
                    coming[queue].append((event, way))
    return [_account(place, known, coming[place.queue], arrivals, since) for place in places]


def _account(
    place: AccountedQueue,
    known: Known,
    coming: Sequence[tuple[Published, OpenRoute]],
    arrivals: ExpectedQueues,
    since: int | None,
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
    left_out: Counter[str] = Counter()
    for event, way in coming:
        if event.id in account.entries:
            continue
        if (why := _left_out(event, way, place, known, first.get(event.type), arrivals.begun)) is not None:
            left_out[why] += 1
        else:
            account.entries[event.id] = event
    refresh(account, known)
    if account.queue in arrivals.untold:
        account.notes.append("headers choose what comes here: only what was tried or parked is counted as published")
    account.notes += [f"{left_out[why]} {why}" for why in (_UNKNOWN, _BEFORE, _EARLY, _UNSENT) if left_out[why]]
    return account


def _left_out(
    event: Published, way: OpenRoute, place: AccountedQueue, known: Known, first: int | None, begun: int | None
) -> str | None:
    """Why an event does not count for a queue; None where it does. ``first`` is when one of its type is known there."""
    begin = way.since
    # The broker's data may have been made anew, and all times with it: then the database knows better.
    if first is not None and (way.is_unsure or begin is None or (begun is not None and begin <= begun)):
        begin = first if begin is None else min(begin, first)
    if begin is None or event.at < begin:
        return _UNKNOWN if way.is_unsure else _BEFORE
    if event.at < (place.known_from or 0):
        return _EARLY
    return _UNSENT if event.id in known.unsent else None


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
        if fates[id].is_wrong(service, inbox, inbox.done[id])
    }


def _ids_in_inboxes(known: Known, queue: str) -> Iterable[str]:
    return (id for (_, name), inbox in known.inboxes.items() if name == queue for id in inbox.done)


def _seen(place: AccountedQueue, known: Known) -> Iterable[Published]:
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
