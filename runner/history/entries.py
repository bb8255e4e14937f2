"""What happened to an order, entry by entry, in words and in an order that no clock can upset."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeVar

from runner.history.records import AttemptRow, EventRow, unreadable

K = TypeVar("K", bound=Hashable)

_Key = tuple[Any, ...]

_OUTCOMES = {
    "handled": "{service} handled {type} on {instance}, {how}",
    "duplicate": "{service} had handled {type} before, so nothing was done on {instance}, {how}",
    "retried": "{service} failed at {type} on {instance}, {how}: {error}; again in {delay}",
    "parked": "{service} gave up {type} on {instance}, {how}: {error}; parked in the dead-letter queue of {queue}",
    "discarded": "{type} discarded by a person from {instance}",
}


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened."""

    #: Milliseconds since the epoch; of a try, when it ended.
    at: int
    #: ``published``, ``handled``, ``duplicate``, ``retried``, ``parked``, ``replayed`` or ``discarded``.
    kind: str
    what: str
    #: The type of the event that was published, or that the message in question holds.
    type: str
    #: The facts behind the words; times as numbers in seconds.
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_published(self) -> bool:
        """Whether an event was published."""
        return self.kind == "published"


def story(events: Sequence[EventRow], attempts: Sequence[AttemptRow]) -> list[HistoryEntry]:
    """All entries: nothing stands before what caused it, and apart from that the earlier thing is the earlier entry.

    An event follows the try that made it, a try follows its event and the tries before it, and a replay stands between
    the tries before and after it.
    """
    entries: dict[_Key, HistoryEntry] = {}
    causes: dict[_Key, set[_Key]] = {}
    tries: dict[str, list[AttemptRow]] = defaultdict(list)
    for one in attempts:
        tries[one.message_id].append(one)
    for event in events:
        key = ("event", event.id)
        entries[key] = _published(event)
        causes[key] = {("event", event.causation_id)}
        maker = _maker(event, tries.get(event.causation_id or "", ()))
        if maker is not None:
            causes[key].add(_key(maker))
            if maker.began_at <= event.published_at <= maker.ended_at:
                # It got its time while its handler was at work, and went out after that.
                entries[key] = replace(entries[key], at=maker.ended_at)
    for ladder in _ladders(attempts):
        _chain(ladder, entries, causes)
    times = {key: (entry.at, repr(key)) for key, entry in entries.items()}
    return [entries[key] for key in causal_order(times, causes)]


def _chain(ladder: Sequence[AttemptRow], entries: dict[_Key, HistoryEntry], causes: dict[_Key, set[_Key]]) -> None:
    """The tries of one message in one queue: each follows the one before it, and those of a second delivery nothing."""
    event: _Key = ("event", ladder[0].message_id)
    for replays, replayed in groupby(ladder, key=lambda one: one.replays):
        own, first = list(replayed), event
        if replays:
            first = ("replay", own[0].queue, own[0].message_id, replays)
            earlier = [one for one in ladder if one.replays < replays]
            last = max(earlier, key=lambda one: one.ended_at, default=None)
            entries[first], causes[first] = _replayed(own[0]), {event if last is None else _key(last)}
        before = first
        for _, same in groupby(own, key=lambda one: one.attempt):
            tries = list(same)
            for one in tries:
                entries[_key(one)], causes[_key(one)] = _tried(one), {before}
            before = _key(tries[0])


def _ladders(attempts: Sequence[AttemptRow]) -> Iterator[list[AttemptRow]]:
    """The tries of each message in each queue, first to last."""
    found: dict[tuple[str, str], list[AttemptRow]] = defaultdict(list)
    for one in attempts:
        found[one.queue, one.message_id].append(one)
    for ladder in found.values():
        yield sorted(ladder, key=lambda one: (one.replays, one.attempt, one.ended_at))


def _key(one: AttemptRow) -> _Key:
    return ("try", one.queue, one.message_id, one.replays, one.attempt, one.instance, one.began_at)


def _maker(event: EventRow, tries: Sequence[AttemptRow]) -> AttemptRow | None:
    """The try that an event was made in, of those of the message that caused it.

    A handler's events get their time while it is at work, by the clock that also times the try.
    """

    def distance(one: AttemptRow) -> tuple[int, bool, int]:
        beside = max(one.began_at - event.published_at, event.published_at - one.ended_at, 0)
        return (beside, one.outcome not in ("handled", "duplicate"), one.began_at)

    return min((one for one in tries if one.service == event.app_id), key=distance, default=None)


def _published(event: EventRow) -> HistoryEntry:
    by = f" by {event.app_id}" if event.app_id else ""
    details = {
        "event_id": event.id,
        "service": event.app_id,
        "exchange": event.exchange,
        "routing_key": event.routing_key,
        "causation_id": event.causation_id,
    }
    return HistoryEntry(
        event.published_at, "published", f"{event.type or 'an event'} published{by}", event.type, details
    )


def _replayed(one: AttemptRow) -> HistoryEntry:
    at = one.replayed_at or one.sent_at or one.began_at
    again = "" if one.replays == 1 else f", for the {_ordinal(one.replays)} time"
    what = f"{one.message_type or 'a message'} replayed to {one.queue}{again}"
    details = {"message_id": one.message_id, "queue": one.queue, "replays": one.replays}
    return HistoryEntry(at, "replayed", what, one.message_type, details)


def _tried(one: AttemptRow) -> HistoryEntry:
    waited = None if one.sent_at is None else max(0, one.began_at - one.sent_at)
    took = max(0, one.ended_at - one.began_at)
    how = f"attempt {one.attempt}{', redelivered' if one.redelivered else ''}"
    how += "" if waited is None else f", waited {duration(waited)}"
    if one.outcome not in _OUTCOMES:
        raise unreadable("attempts", "outcome", one.outcome)
    what = _OUTCOMES[one.outcome].format(
        service=one.service,
        type=one.message_type or "a message",
        instance=one.instance,
        how=f"{how}, took {duration(took)}",
        error=one.error,
        delay=_delay(one.delay or 0),
        queue=one.queue,
    )
    details: dict[str, Any] = {
        "message_id": one.message_id,
        "service": one.service,
        "instance": one.instance,
        "queue": one.queue,
        "attempt": one.attempt,
        "redelivered": one.redelivered,
        "waited": None if waited is None else waited / 1000,
        "took": took / 1000,
    }
    if one.outcome == "discarded":
        details = {"message_id": one.message_id, "queue": one.queue, "dead_letter": one.instance}
    if one.error is not None:
        details["error"] = one.error
    if one.outcome == "retried":
        details["again_in"] = (one.delay or 0) / 1000
    return HistoryEntry(one.ended_at, one.outcome, what, one.message_type, details)


def _delay(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds} ms"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(milliseconds: int) -> str:
    """``4 ms``, or ``1.02 s`` from a tenth of a second on."""
    return f"{milliseconds} ms" if milliseconds < 100 else f"{milliseconds / 1000:.2f} s"


def causal_order(times: Mapping[K, tuple[int, str]], causes: Mapping[K, Set[K]]) -> list[K]:
    """The keys of ``times`` by time and then by name, but none before one of its ``causes``.

    Causes that are not there count for nothing. Where things are said to cause each other, which no clock or sender can
    make true, the earliest of them goes first.
    """
    open_causes = {key: {one for one in causes.get(key, ()) if one in times and one != key} for key in times}
    effects: dict[K, list[K]] = defaultdict(list)
    for key, found in open_causes.items():
        for cause in found:
            effects[cause].append(key)
    by_time = sorted(times, key=lambda key: times[key])
    # Places instead of the keys themselves, which need not be comparable.
    place = {key: number for number, key in enumerate(by_time)}
    free = [place[key] for key in by_time if not open_causes[key]]
    heapq.heapify(free)
    done: dict[K, None] = {}
    rest = iter(by_time)
    while len(done) < len(times):
        key = by_time[heapq.heappop(free)] if free else next(one for one in rest if one not in done)
        if key in done:
            continue
        done[key] = None
        for effect in effects[key]:
            open_causes[effect].discard(key)
            if not open_causes[effect] and effect not in done:
                heapq.heappush(free, place[effect])
    return list(done)
