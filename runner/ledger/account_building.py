"""Construction of each queue's account from database rows and dead letters that have already been read.

``loss_detection`` determines which missing messages are lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runner.ledger.account import Account, AccountedQueue
from runner.ledger.expected_queues import ExpectedQueues, OpenRoute
from runner.ledger.recorded_fates import Fate, Fates, InboxRows, Names, Published
from runner.topology.plan import counted

#: The reasons why events are not counted. In the output, a reason follows the number of events.
_UNKNOWN = "the age of the binding is unknown, and the queue has no earlier event of this type"
_BEFORE = "published before the binding existed, and not handled"
_EARLY = "published when handled messages were not recorded yet"
_UNSENT = "not confirmed yet, and still waiting in the outbox"


@dataclass(frozen=True, slots=True)
class KnownDeadLetter:
    """A message in a dead-letter queue."""

    type: str
    order_id: str | None
    #: The time of publishing in milliseconds since the epoch. None if no property contains the time.
    at: int | None = None


@dataclass(frozen=True)
class Known:
    """All records of messages in the database and on the broker."""

    #: The events by id. A row from the ``audit`` plugin replaces other records of the same event.
    events: Mapping[str, Published]
    #: The ids of the events that the ``audit`` plugin recorded.
    audited: frozenset[str]
    fates: Fates
    inboxes: Mapping[tuple[str, str], InboxRows]
    #: The dead letters by the queue in which they failed, then by id.
    dead_letters: Mapping[str, Mapping[str, KnownDeadLetter]]
    #: The ids of outbox events that the broker has not confirmed.
    unsent: frozenset[str] = frozenset()
    #: The current names of renamed queues, by their previous names.
    renamed: Names = field(default_factory=dict)


def accounts(
    places: Sequence[AccountedQueue], known: Known, expected: ExpectedQueues, since: int | None = None
) -> list[Account]:
    """Return the account of each queue, with the messages that were published at ``since`` or later.

    ``since`` is in milliseconds since the epoch.
    """
    routed: dict[str, list[tuple[Published, OpenRoute]]] = defaultdict(list)
    wanted = {place.queue for place in places}
    for event in known.events.values():
        if since is None or event.at >= since:
            for queue, route in expected.of(event.exchange, event.key).items():
                if queue in wanted:
                    routed[queue].append((event, route))
    return [_account(place, known, routed[place.queue], expected, since) for place in places]


def _account(
    place: AccountedQueue,
    known: Known,
    routed: Sequence[tuple[Published, OpenRoute]],
    expected: ExpectedQueues,
    since: int | None,
) -> Account:
    account = Account(place, {})
    first: dict[str, int] = {}
    # A message that has a record for this queue is counted for this queue, whatever the message's route.
    for entry in _seen(place, known):
        if since is None or entry.at >= since:
            account.entries[entry.id] = entry
        first[entry.type] = min(entry.at, first.get(entry.type, entry.at))
    if place.is_audit:
        for event, _ in routed:
            if event.id in known.audited:
                account.entries[event.id] = event
                first[event.type] = min(event.at, first.get(event.type, event.at))
    left_out: Counter[str] = Counter()
    for event, route in routed:
        if event.id in account.entries:
            continue
        if (why := _left_out(event, route, place, known, first.get(event.type), expected.begun)) is not None:
            left_out[why] += 1
        else:
            account.entries[event.id] = event
    refresh(account, known)
    if account.queue in expected.unpredictable:
        account.notes.append(
            "the routing to this queue depends on headers or a plugin, so only attempted and dead-lettered messages"
            " count as published"
        )
    reasons = [why for why in (_UNKNOWN, _BEFORE, _EARLY, _UNSENT) if left_out[why]]
    account.notes += [f"{counted(left_out[why], 'event')} not counted: {why}" for why in reasons]
    return account


def _left_out(
    event: Published, route: OpenRoute, place: AccountedQueue, known: Known, first: int | None, begun: int | None
) -> str | None:
    """Return the reason why an event is not counted for a queue, or None if the event is counted.

    ``first`` is the time of the first recorded event of this type in the queue. ``begun`` is the time of the broker's
    oldest binding record.
    """
    begin = route.since
    # If the broker's data is new, all bindings look new, and the database contains older records.
    if first is not None and (route.is_unsure or begin is None or (begun is not None and begin <= begun)):
        begin = first if begin is None else min(begin, first)
    if begin is None or event.at < begin:
        return _UNKNOWN if route.is_unsure else _BEFORE
    if event.at < (place.known_from or 0):
        return _EARLY
    return _UNSENT if event.id in known.unsent else None


def refresh(account: Account, known: Known) -> None:
    """Update the outcomes of the messages in an account."""
    place, entries = account.place, account.entries
    fates = known.fates.get(place.queue, {})
    inboxes = [(known.inboxes.get((service, place.queue)), service) for service in place.services]
    account.handled |= {id for id, fate in fates.items() if fate.is_handled and id in entries}
    for inbox, _ in inboxes:
        account.handled |= entries.keys() & (inbox.done.keys() if inbox is not None else ())
    if place.is_audit:
        account.handled |= entries.keys() & known.audited
    account.discarded |= {id for id, fate in fates.items() if fate.is_discarded and id in entries}
    account.dead_lettered = entries.keys() & known.dead_letters.get(place.queue, {}).keys()
    if place.dead_letter is not None:
        # If a service consumes the dead-letter queue, the dead-letter queue has an account of its own.
        attempted = known.fates.get(place.dead_letter, {}).keys()
        account.consumed_dead_letters |= entries.keys() & {*attempted, *_ids_in_inboxes(known, place.dead_letter)}
    account.twice |= {id for id, fate in fates.items() if len(fate.handled) > 1 and fate.is_twice() and id in entries}
    account.wrong |= {
        id
        for inbox, service in inboxes
        if inbox is not None and service in place.inboxes
        for id in fates.keys() & account.twice & inbox.done.keys()
        if fates[id].is_wrong(service, inbox, inbox.done[id])
    }


def _ids_in_inboxes(known: Known, queue: str) -> Iterable[str]:
    return (id for (_, name), inbox in known.inboxes.items() if name == queue for id in inbox.done)


def _seen(place: AccountedQueue, known: Known) -> Iterable[Published]:
    fates: Mapping[str, Fate] = known.fates.get(place.queue, {})
    dead_letters = known.dead_letters.get(place.queue, {})
    ids = {*fates, *dead_letters}
    for service in place.services:
        inbox = known.inboxes.get((service, place.queue))
        ids |= inbox.done.keys() if inbox is not None else frozenset()
    for id in ids:
        event, seen = known.events.get(id), fates.get(id) or dead_letters.get(id)
        if event is not None:
            yield event
        elif seen is not None:
            yield Published(id, seen.type, seen.order_id, seen.at or 0)
        else:
            yield Published(id, "", None, 0)
