"""The entries of an order history, with each cause before its effect, even if the clocks of two machines differ."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeVar

from runner.history.records import DEAD_LETTERED, AttemptRow, EventRow, unreadable

K = TypeVar("K", bound=Hashable)

_Key = tuple[Any, ...]

_OUTCOMES = {
    "handled": "{service} handled {type} on {instance}, {how}",
    "duplicate": "{service} skipped {type} on {instance} as a duplicate, {how}",
    "retried": "{service} failed to handle {type} on {instance}, {how}: {error}; retry in {delay}",
    DEAD_LETTERED: "{service} gave up {type} on {instance}, {how}: {error}; dead-lettered from {queue}",
    "discarded": "{type} manually discarded from {instance}",
}


@dataclass(frozen=True)
class HistoryEntry:
    """An entry about a published event, an attempt, a replay or a discard."""

    #: Milliseconds since the epoch. For an attempt, this is the time at which the attempt ended.
    at: int
    #: ``published``, ``replayed``, or the outcome of an attempt.
    kind: str
    what: str
    #: The type of the event or message.
    type: str
    #: The facts in ``what`` by name, with durations in seconds.
    details: dict[str, Any] = field(default_factory=dict)
    #: The row from which the entry was made. A replay has the row of the first attempt after the replay.
    row: EventRow | AttemptRow | None = field(default=None, compare=False, repr=False)

    @property
    def is_published(self) -> bool:
        """True if the entry is about a published event."""
        return self.kind == "published"


def entries_of(events: Sequence[EventRow], attempts: Sequence[AttemptRow]) -> list[HistoryEntry]:
    """Return all entries sorted by time, but with each entry after its cause.

    An event follows the attempt that published it. An attempt follows its event and all earlier attempts. A replay is
    placed between the attempts before and after the replay.
    """
    entries: dict[_Key, HistoryEntry] = {}
    causes: dict[_Key, set[_Key]] = {}
    by_message: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        by_message[attempt.message_id].append(attempt)
    for event in events:
        key = ("event", event.id)
        entries[key] = _publish_entry(event)
        causes[key] = {("event", event.causation_id)}
        publisher = _publisher(event, by_message.get(event.causation_id or "", ()))
        if publisher is not None:
            causes[key].add(_key(publisher))
            if publisher.began_at <= event.published_at <= publisher.ended_at:
                # The handler creates the event, but the worker publishes it only after the handler has returned.
                entries[key] = replace(entries[key], at=publisher.ended_at)
    for delivered in _by_delivery(attempts):
        _add_attempts(delivered, entries, causes)
    times = {key: (entry.at, repr(key)) for key, entry in entries.items()}
    return [entries[key] for key in causal_order(times, causes)]


def _add_attempts(
    attempts: Sequence[AttemptRow], entries: dict[_Key, HistoryEntry], causes: dict[_Key, set[_Key]]
) -> None:
    """Add the attempts on one message in one queue. The cause of each attempt is the previous attempt.

    Two rows with the same attempt number belong to two deliveries, so neither attempt causes the other attempt.
    """
    event: _Key = ("event", attempts[0].message_id)
    for replays, replayed in groupby(attempts, key=lambda one: one.replays):
        own, first = list(replayed), event
        if replays:
            first = ("replay", own[0].queue, own[0].message_id, replays)
            earlier = [one for one in attempts if one.replays < replays]
            last = max(earlier, key=lambda one: one.ended_at, default=None)
            entries[first], causes[first] = _replay_entry(own[0]), {event if last is None else _key(last)}
        before = first
        for _, group in groupby(own, key=lambda one: one.attempt):
            same = list(group)
            for one in same:
                entries[_key(one)], causes[_key(one)] = _attempt_entry(one), {before}
            before = _key(same[0])


def _by_delivery(attempts: Sequence[AttemptRow]) -> Iterator[list[AttemptRow]]:
    """Yield the attempts on each message in each queue, from the first to the last."""
    found: dict[tuple[str, str], list[AttemptRow]] = defaultdict(list)
    for one in attempts:
        found[one.queue, one.message_id].append(one)
    for own in found.values():
        yield sorted(own, key=lambda one: (one.replays, one.attempt, one.ended_at))


def _key(one: AttemptRow) -> _Key:
    return ("attempt", one.queue, one.message_id, one.replays, one.attempt, one.instance, one.began_at)


def _publisher(event: EventRow, attempts: Sequence[AttemptRow]) -> AttemptRow | None:
    """Return the attempt that published an event, chosen from the attempts on the message that caused the event.

    The event's time comes from the handler's clock during the attempt, so the attempt closest in time is the publisher.
    """

    def distance(one: AttemptRow) -> tuple[int, bool, int]:
        beside = max(one.began_at - event.published_at, event.published_at - one.ended_at, 0)
        return (beside, one.outcome not in ("handled", "duplicate"), one.began_at)

    return min((one for one in attempts if one.service == event.app_id), key=distance, default=None)


def _publish_entry(event: EventRow) -> HistoryEntry:
    by = f" by {event.app_id}" if event.app_id else ""
    details = {
        "event_id": event.id,
        "service": event.app_id,
        "exchange": event.exchange,
        "routing_key": event.routing_key,
        "causation_id": event.causation_id,
    }
    return HistoryEntry(
        event.published_at, "published", f"{event.type or 'an event'} published{by}", event.type, details, event
    )


def _replay_entry(one: AttemptRow) -> HistoryEntry:
    at = one.replayed_at or one.sent_at or one.began_at
    again = "" if one.replays == 1 else f", for the {_ordinal(one.replays)} time"
    what = f"{one.message_type or 'a message'} replayed to {one.queue}{again}"
    details = {"message_id": one.message_id, "queue": one.queue, "replays": one.replays}
    return HistoryEntry(at, "replayed", what, one.message_type, details, one)


def _attempt_entry(one: AttemptRow) -> HistoryEntry:
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
        delay=delay_text(one.delay or 0),
        queue=one.queue,
    )
    details: dict[str, Any] = {
        "message_id": one.message_id,
        "service": one.service,
        "instance": one.instance,
        "pid": one.pid,
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
    return HistoryEntry(one.ended_at, one.outcome, what, one.message_type, details, one)


def delay_text(milliseconds: int) -> str:
    """Format a retry delay as in topology.yaml, such as ``300 ms`` or ``1 s``."""
    return f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds} ms"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(milliseconds: int) -> str:
    """Format a duration, such as ``4 ms``, ``1.02 s``, ``2 min 14 s``, ``2 h 14 min`` or ``3 d 2 h``."""
    if milliseconds < 100:
        return f"{milliseconds} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.2f} s"
    seconds = milliseconds // 1000
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    hours = seconds // 3600
    return f"{hours} h {seconds // 60 % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def causal_order(times: Mapping[K, tuple[int, str]], causes: Mapping[K, Set[K]]) -> list[K]:
    """Return the keys of ``times``, sorted by time and then by name, but with each key after its ``causes``.

    Unknown causes are ignored. In a cycle of causes, which only invalid data contains, the earliest key is first.
    """
    open_causes = {key: {one for one in causes.get(key, ()) if one in times and one != key} for key in times}
    effects: dict[K, list[K]] = defaultdict(list)
    for key, found in open_causes.items():
        for cause in found:
            effects[cause].append(key)
    by_time = sorted(times, key=lambda key: times[key])
    # The heap contains numbers instead of keys, because keys may not be comparable.
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
