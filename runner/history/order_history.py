"""The history of one order, with its entries, status and times, from the rows that the ``audit`` service stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.history.entries import HistoryEntry, entries_of
from runner.history.records import DEAD_LETTERED, AttemptRow, EventRow, Read, attempts_of, events_of, statuses
from runner.messages import ACCEPTED, FAILED


@dataclass(frozen=True)
class DeadLetteredDelivery:
    """A message that was dead-lettered after its latest attempt."""

    queue: str
    service: str
    message_id: str
    message_type: str
    error: str
    #: Milliseconds since the epoch.
    since: int


@dataclass(frozen=True)
class WaitingDelivery:
    """A message that is waiting for its next attempt."""

    queue: str
    message_id: str
    message_type: str
    #: Milliseconds since the epoch.
    due: int


@dataclass(frozen=True)
class Totals:
    """The total times of an order, in milliseconds."""

    #: The time from the order's first event to the first decision, or None if there is no decision yet.
    decided: int | None
    #: The total time that all messages spent in queues, and the part of this time spent on retry delays.
    waited: int
    delayed: int
    handled: int
    #: The total time that replayed messages spent in dead-letter queues.
    dead_lettered: int


@dataclass(frozen=True)
class OrderHistory:
    """The history of one order."""

    order_id: str
    #: The status after the latest decision. Before a decision, the status is ``failed`` if a message of the order was
    #: discarded, or is a dead letter without a later attempt. Otherwise, it is ``accepted``.
    status: str
    #: The type of the event that decided the order.
    decided_by: str | None
    entries: Sequence[HistoryEntry]
    dead_lettered: Sequence[DeadLetteredDelivery]
    waiting: Sequence[WaitingDelivery]
    totals: Totals
    #: The rows from which the history was built.
    events: Sequence[EventRow] = ()
    attempts: Sequence[AttemptRow] = ()


def read_history(read: Read, order: str) -> OrderHistory | None:
    """Return the history of the order with this full id, or None if no row belongs to the order."""
    events, attempts = events_of(read, order), attempts_of(read, order)
    return build_history(order, events, attempts, statuses(read)) if events or attempts else None


def build_history(
    order: str, events: Sequence[EventRow], attempts: Sequence[AttemptRow], status_of: Mapping[str, str]
) -> OrderHistory:
    """Build an order's history from its rows. ``status_of`` contains the order status after each event type."""
    entries = entries_of(events, attempts)
    last = _last_attempts(attempts)
    dead_lettered = [
        DeadLetteredDelivery(one.queue, one.service, one.message_id, one.message_type, one.error or "", one.ended_at)
        for one in last
        if one.outcome == DEAD_LETTERED
    ]
    waiting = [
        WaitingDelivery(one.queue, one.message_id, one.message_type, one.ended_at + (one.delay or 0))
        for one in last
        if one.outcome == "retried"
    ]
    steps = [(one, status_of[one.type]) for one in entries if one.is_published and one.type in status_of]
    begun = [one for one, status in steps if status == ACCEPTED]
    decisions = [(one, status) for one, status in steps if status != ACCEPTED]
    is_failed = any(one.outcome in (DEAD_LETTERED, "discarded") for one in last)
    decision, status = decisions[-1] if decisions else (None, FAILED if is_failed else ACCEPTED)
    decided = max(0, decisions[0][0].at - begun[0].at) if begun and decisions else None
    decided_by = None if decision is None else decision.type
    totals = _totals(decided, attempts)
    return OrderHistory(order, status, decided_by, entries, dead_lettered, waiting, totals, events, attempts)


def as_json(found: OrderHistory) -> dict[str, Any]:
    """Return the history as JSON values, with times as ISO 8601 text and durations in seconds."""
    totals = found.totals
    return {
        "order_id": found.order_id,
        "status": found.status,
        "history": [
            {"at": moment(entry.at), "kind": entry.kind, "what": entry.what, "type": entry.type, **entry.details}
            for entry in found.entries
        ],
        "dead_lettered": [
            {
                "queue": one.queue,
                "service": one.service,
                "message_id": one.message_id,
                "type": one.message_type,
                "error": one.error,
                "since": moment(one.since),
            }
            for one in found.dead_lettered
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
            "dead_lettered": totals.dead_lettered / 1000,
        },
    }


def moment(milliseconds: int) -> str:
    """Format a time, such as ``2026-11-25T18:20:01.123Z``. A time outside the calendar remains a number."""
    try:
        found = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _last_attempts(attempts: Sequence[AttemptRow]) -> list[AttemptRow]:
    """Return the last attempt on each message in each queue, sorted by time."""
    last: dict[tuple[str, str], AttemptRow] = {}
    for one in sorted(attempts, key=lambda one: (one.replays, one.attempt, one.ended_at)):
        last[one.queue, one.message_id] = one
    return sorted(last.values(), key=lambda one: (one.ended_at, one.queue, one.message_id))


def _totals(decided: int | None, attempts: Sequence[AttemptRow]) -> Totals:
    known = {(one.queue, one.message_id, one.replays, one.attempt) for one in attempts}
    return Totals(
        decided=decided,
        waited=sum(one.began_at - one.sent_at for one in attempts if one.sent_at and one.sent_at < one.began_at),
        delayed=sum(
            one.delay or 0
            for one in attempts
            if (one.queue, one.message_id, one.replays, one.attempt + 1) in known and one.outcome == "retried"
        ),
        handled=sum(max(0, one.ended_at - one.began_at) for one in attempts),
        dead_lettered=_dead_lettered_time(attempts),
    )


def _dead_lettered_time(attempts: Sequence[AttemptRow]) -> int:
    replayed = {(one.queue, one.message_id, one.replays): one.replayed_at for one in attempts if one.replayed_at}
    # If two deliveries of a message were dead-lettered, the later time counts.
    times = {(one.queue, one.message_id, one.replays): one.ended_at for one in attempts if one.outcome == DEAD_LETTERED}
    return sum(
        max(0, back - since)
        for (queue, message, replays), since in times.items()
        if (back := replayed.get((queue, message, replays + 1))) is not None
    )
