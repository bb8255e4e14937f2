"""One order's story, as audit wrote it down: what happened, where it stands, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.history.entries import HistoryEntry, story
from runner.history.records import AttemptRow, EventRow, Read, attempts_of, events_of

CREATED, PAID, DECLINED = "order.created", "payment.success", "payment.failed"


@dataclass(frozen=True)
class DeadLetteredDelivery:
    """A message that lies in a dead-letter queue, as far as its tries tell."""

    queue: str
    service: str
    message_id: str
    message_type: str
    error: str
    #: Milliseconds since the epoch.
    since: int


@dataclass(frozen=True)
class WaitingDelivery:
    """A message that waits for its next try."""

    queue: str
    message_id: str
    message_type: str
    #: Milliseconds since the epoch.
    due: int


@dataclass(frozen=True)
class Totals:
    """How long it took, in milliseconds."""

    #: From the first order.created to the decision; None before that.
    decided: int | None
    #: In queues, of all messages of the order together; and how much of it was the delay before another try.
    waited: int
    delayed: int
    handled: int
    #: In dead-letter queues, until it was replayed.
    parked: int


@dataclass(frozen=True)
class OrderHistory:
    """One order's story."""

    order_id: str
    #: ``accepted``: not decided yet. ``paid``, ``declined``: as the latest decision says. ``failed``: not decided, and
    #: a message of the order lies in a dead-letter queue and was not replayed and tried since, or was discarded there.
    status: str
    entries: Sequence[HistoryEntry]
    parked: Sequence[DeadLetteredDelivery]
    waiting: Sequence[WaitingDelivery]
    totals: Totals


def journey(read: Read, order: str) -> OrderHistory | None:
    """The story of the order with this very id; None where nothing is known of it."""
    events, attempts = events_of(read, order), attempts_of(read, order)
    return journey_of(order, events, attempts) if events or attempts else None


def journey_of(order: str, events: Sequence[EventRow], attempts: Sequence[AttemptRow]) -> OrderHistory:
    """The story that events and tries tell."""
    entries = story(events, attempts)
    last = _last_tries(attempts)
    parked = [
        DeadLetteredDelivery(one.queue, one.service, one.message_id, one.message_type, one.error or "", one.ended_at)
        for one in last
        if one.outcome == "parked"
    ]
    waiting = [
        WaitingDelivery(one.queue, one.message_id, one.message_type, one.ended_at + (one.delay or 0))
        for one in last
        if one.outcome == "retried"
    ]
    decision = next((one for one in reversed(entries) if one.is_published and one.type in (PAID, DECLINED)), None)
    if decision is not None:
        status = "paid" if decision.type == PAID else "declined"
    else:
        status = "failed" if any(one.outcome in ("parked", "discarded") for one in last) else "accepted"
    return OrderHistory(order, status, entries, parked, waiting, _totals(entries, attempts))


def as_json(found: OrderHistory) -> dict[str, Any]:
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


def _totals(entries: Sequence[HistoryEntry], attempts: Sequence[AttemptRow]) -> Totals:
    published = [one for one in entries if one.is_published]
    accepted = next((one.at for one in published if one.type == CREATED), None)
    decided = next((one.at for one in published if one.type in (PAID, DECLINED)), None)
    tried = {(one.queue, one.message_id, one.replays, one.attempt) for one in attempts}
    return Totals(
        decided=None if accepted is None or decided is None else max(0, decided - accepted),
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
