"""One order's story, as audit wrote it down: what happened, where it stands, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.messages import ACCEPTED, FAILED
from runner.store.audited import AttemptRow, EventRow, Read, attempts_of, events_of, statuses
from runner.store.story import Entry, story


@dataclass(frozen=True)
class Parked:
    """A message that lies in a dead-letter queue, as far as its tries tell."""

    queue: str
    service: str
    message_id: str
    message_type: str
    error: str
    #: Milliseconds since the epoch.
    since: int


@dataclass(frozen=True)
class Waiting:
    """A message that waits for its next try."""

    queue: str
    message_id: str
    message_type: str
    #: Milliseconds since the epoch.
    due: int


@dataclass(frozen=True)
class Totals:
    """How long it took, in milliseconds."""

    #: From the event that begins the order to the first decision; None before that.
    decided: int | None
    #: In queues, of all messages of the order together; and how much of it was the delay before another try.
    waited: int
    delayed: int
    handled: int
    #: In dead-letter queues, until it was replayed.
    parked: int


@dataclass(frozen=True)
class Journey:
    """One order's story."""

    order_id: str
    #: ``accepted``: not decided yet. ``failed``: not decided, and a message of the order lies in a dead-letter queue
    #: and was not replayed and tried since, or was discarded there. Otherwise the status after the latest decision.
    status: str
    #: The type of the event that decided it.
    decided_by: str | None
    entries: Sequence[Entry]
    parked: Sequence[Parked]
    waiting: Sequence[Waiting]
    totals: Totals


def journey(read: Read, order: str) -> Journey | None:
    """The story of the order with this very id; None where nothing is known of it."""
    events, attempts = events_of(read, order), attempts_of(read, order)
    return journey_of(order, events, attempts, statuses(read)) if events or attempts else None


def journey_of(
    order: str, events: Sequence[EventRow], attempts: Sequence[AttemptRow], status_of: Mapping[str, str]
) -> Journey:
    """The story that events and tries tell; ``status_of`` has the status after an event, by its type."""
    entries = story(events, attempts)
    last = _last_tries(attempts)
    parked = [
        Parked(one.queue, one.service, one.message_id, one.message_type, one.error or "", one.ended_at)
        for one in last
        if one.outcome == "parked"
    ]
    waiting = [
        Waiting(one.queue, one.message_id, one.message_type, one.ended_at + (one.delay or 0))
        for one in last
        if one.outcome == "retried"
    ]
    steps = [(one, status_of[one.type]) for one in entries if one.is_published and one.type in status_of]
    begun = [one for one, status in steps if status == ACCEPTED]
    decisions = [(one, status) for one, status in steps if status != ACCEPTED]
    is_failed = any(one.outcome in ("parked", "discarded") for one in last)
    decision, status = decisions[-1] if decisions else (None, FAILED if is_failed else ACCEPTED)
    decided = max(0, decisions[0][0].at - begun[0].at) if begun and decisions else None
    decided_by = None if decision is None else decision.type
    return Journey(order, status, decided_by, entries, parked, waiting, _totals(decided, attempts))


def as_json(found: Journey) -> dict[str, Any]:
    """The whole story as plain values: times as text of ISO 8601, durations in seconds."""
    totals = found.totals
    return {
        "order_id": found.order_id,
        "status": found.status,
        "history": [
            {"at": moment(entry.at), "kind": entry.kind, "what": entry.what, "type": entry.type, **entry.details}
            for entry in found.entries
        ],
        "parked": [
            {
                "queue": one.queue,
                "service": one.service,
                "message_id": one.message_id,
                "type": one.message_type,
                "error": one.error,
                "since": moment(one.since),
            }
            for one in found.parked
        ],
        "waiting": [
            {"queue": one.queue, "message_id": one.message_id, "type": one.message_type, "due": moment(one.due)}
            for one in found.waiting
        ],
        "totals": {
            "decided_after": None if totals.decided is None else totals.decided / 1000,
            "waited": totals.waited / 1000,
            "delayed": totals.delayed / 1000,
            "handled": totals.handled / 1000,
            "parked": totals.parked / 1000,
        },
    }


def moment(milliseconds: int) -> str:
    """``2026-11-25T18:20:01.123Z``; a time that no calendar has is given as the number it is."""
    try:
        found = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _last_tries(attempts: Sequence[AttemptRow]) -> list[AttemptRow]:
    """The last try of each message in each queue, by time."""
    last: dict[tuple[str, str], AttemptRow] = {}
    for one in sorted(attempts, key=lambda one: (one.replays, one.attempt, one.ended_at)):
        last[one.queue, one.message_id] = one
    return sorted(last.values(), key=lambda one: (one.ended_at, one.queue, one.message_id))


def _totals(decided: int | None, attempts: Sequence[AttemptRow]) -> Totals:
    tried = {(one.queue, one.message_id, one.replays, one.attempt) for one in attempts}
    return Totals(
        decided=decided,
        waited=sum(one.began_at - one.sent_at for one in attempts if one.sent_at and one.sent_at < one.began_at),
        delayed=sum(
            one.delay or 0
            for one in attempts
            if (one.queue, one.message_id, one.replays, one.attempt + 1) in tried and one.outcome == "retried"
        ),
        handled=sum(max(0, one.ended_at - one.began_at) for one in attempts),
        parked=_parked_time(attempts),
    )


def _parked_time(attempts: Sequence[AttemptRow]) -> int:
    replayed = {(one.queue, one.message_id, one.replays): one.replayed_at for one in attempts if one.replayed_at}
    # A message that came twice may have been parked twice: the last time counts.
    parked = {(one.queue, one.message_id, one.replays): one.ended_at for one in attempts if one.outcome == "parked"}
    return sum(
        max(0, back - since)
        for (queue, message, replays), since in parked.items()
        if (back := replayed.get((queue, message, replays + 1))) is not None
    )
