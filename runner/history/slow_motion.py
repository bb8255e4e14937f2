"""The recorded way of one order through the picture of the topology, with the reason for each move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.history.entries import HistoryEntry, delay_text, duration
from runner.history.event_routes import EventRoutes
from runner.history.order_history import OrderHistory, moment
from runner.history.records import DEAD_LETTERED, AttemptRow, EventRow
from runner.topology.model import RetryDelays


@dataclass(frozen=True)
class EdgeMove:
    """A move of a message along one edge of the picture. Times are in milliseconds since the order started."""

    #: The edge as ``SOURCE>TARGET``, such as ``exchange orders.topic>queue payment.order.created``.
    edge: str
    at: int
    #: The time until the message moves on, or 0 if the message does not move on.
    duration: int
    #: A sentence.
    reason: str


@dataclass(frozen=True)
class MotionStep:
    """An entry of the order history, with the moves that belong to the entry."""

    #: The time of the entry, in milliseconds since the order started.
    at: int
    kind: str
    #: The text of the entry.
    text: str
    moves: tuple[EdgeMove, ...]


def motion_of(history: OrderHistory, routes: EventRoutes) -> list[MotionStep]:
    """Return the steps of an order, in the order of its history."""
    return list(_Motion(history, routes).steps())


def motion_json(history: OrderHistory, steps: list[MotionStep]) -> dict[str, Any]:
    """Return the steps as JSON values. Times and durations are in milliseconds since the start."""
    return {
        "order_id": history.order_id,
        "status": history.status,
        "started": moment(history.entries[0].at) if history.entries else None,
        "steps": [
            {"at": one.at, "kind": one.kind, "text": one.text, "moves": [vars(move) for move in one.moves]}
            for one in steps
        ],
    }


class _Motion:
    def __init__(self, history: OrderHistory, routes: EventRoutes) -> None:
        self._history, self._routes = history, routes
        self._start = history.entries[0].at if history.entries else 0
        self._queues: dict[str, list[AttemptRow]] = defaultdict(list)
        for one in sorted(history.attempts, key=lambda one: (one.began_at, one.attempt)):
            self._queues[one.message_id].append(one)

    def steps(self) -> Iterator[MotionStep]:
        """Yield the steps. The time of a step is never before the time of the previous step."""
        last = 0
        for entry in self._history.entries:
            last = max(last, entry.at - self._start)
            yield MotionStep(last, entry.kind, entry.what, tuple(self._moves(entry)))

    def _moves(self, entry: HistoryEntry) -> Iterator[EdgeMove]:
        row = entry.row
        if isinstance(row, EventRow):
            yield from self._published(row, self._at(entry.at))
        elif entry.kind == "replayed" and row is not None:
            at = self._at(entry.at)
            reason = f"A person replayed the dead letter to {row.queue}, where attempt {row.attempt} follows."
            yield EdgeMove(f"dead {row.queue}>queue {row.queue}", at, max(0, self._at(row.began_at) - at), reason)
        elif row is not None and entry.kind != "discarded":
            yield from self._attempt(row)

    def _published(self, event: EventRow, at: int) -> Iterator[EdgeMove]:
        first: dict[str, AttemptRow] = {}
        for one in self._queues[event.id]:
            if one.outcome != "discarded":
                first.setdefault(one.queue, one)
        publisher = f"service {event.app_id or 'unknown'}"
        if event.exchange:
            reason = f"{event.app_id or 'A client'} published {event.type or 'an event'} to {event.exchange}"
            yield EdgeMove(
                f"{publisher}>exchange {event.exchange}", at, 0, f"{reason} with the key {event.routing_key!r}."
            )
        for hop in self._routes.hops(event, first):
            attempt = first.get(hop.destination) if hop.kind == "queue" else None
            waited = 0 if attempt is None else max(0, self._at(attempt.began_at) - at)
            source = f"exchange {hop.exchange}" if hop.exchange else publisher
            yield EdgeMove(f"{source}>{hop.kind} {hop.destination}", at, waited, hop.reason)

    def _attempt(self, one: AttemptRow) -> Iterator[EdgeMove]:
        began, ended = self._at(one.began_at), self._at(max(one.began_at, one.ended_at))
        waited = "" if one.sent_at is None else f", {duration(max(0, one.began_at - one.sent_at))} after it was sent"
        again = "The broker delivered the message again, and " if one.redelivered else ""
        reason = f"{again}{one.instance} started attempt {one.attempt}{waited}."
        yield EdgeMove(f"queue {one.queue}>service {one.service}", began, ended - began, reason)
        delays = self._routes.retry_delays.get(one.queue)
        if one.outcome == "retried":
            yield EdgeMove(
                f"service {one.service}>retry {one.queue}", ended, one.delay or 0, _retry_reason(one, delays)
            )
        elif one.outcome == DEAD_LETTERED:
            back = min(
                (self._at(other.replayed_at or other.began_at) for other in self._queues[one.message_id]
                 if other.queue == one.queue and other.replays > one.replays),
                default=ended,
            )  # fmt: skip
            reason = _dead_letter_reason(one, delays)
            yield EdgeMove(f"service {one.service}>dead {one.queue}", ended, max(0, back - ended), reason)

    def _at(self, time: int) -> int:
        return max(0, time - self._start)


def _retry_reason(one: AttemptRow, delays: RetryDelays | None) -> str:
    count = "" if delays is None else f" of {len(delays.steps) + 1}"
    steps = () if delays is None else delays.steps[one.attempt - 1 : one.attempt]
    where, delay = "".join(f" in {name}" for _, name in steps), delay_text(one.delay or 0)
    return f"Attempt {one.attempt}{count} failed ({one.error}), so the message waits {delay}{where}."


def _dead_letter_reason(one: AttemptRow, delays: RetryDelays | None) -> str:
    if delays is not None and one.attempt <= len(delays.steps):
        return f"{one.service} rejected the message in attempt {one.attempt} ({one.error}), so no retry follows."
    return f"Attempt {one.attempt} failed ({one.error}), and no retry delay is left."
