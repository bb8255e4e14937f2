"""One step of an order: its message with payload and headers, and the error of a failed attempt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.dashboard.json_layout import indented
from runner.escape import escaped, escaped_json, json_text
from runner.history.entries import HistoryEntry, delay_text, duration
from runner.history.order_history import OrderHistory
from runner.history.records import AttemptRow, EventRow

#: The maximum number of characters of a payload or header on the page.
MOST_SHOWN = 64 * 1024


@dataclass(frozen=True)
class StepRow:
    """A row in the table of steps."""

    number: int
    kind: str
    #: The time since the start of the order.
    time: str
    text: str
    slot: str
    pid: int | None
    waited: str
    took: str


@dataclass(frozen=True)
class StepDetail:
    """A selected step with the message to which it belongs."""

    number: int
    kind: str
    title: str
    #: The slot of an attempt, or the publisher of an event.
    where: str
    error: str
    #: The payload as text, or None if the history does not contain the message.
    payload: str | None
    #: The number of characters that the payload has beyond ``MOST_SHOWN``.
    more: int
    #: The properties and headers of the message.
    properties: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]
    #: A sentence about the message: type, size and publisher.
    about: str
    #: The queue of a message that is a dead letter, or an empty string.
    dead_letter_queue: str
    message_id: str


def step_rows(history: OrderHistory) -> list[StepRow]:
    """Return the rows of all steps, in the order of the history."""
    start = history.entries[0].at if history.entries else 0
    return [_row(number, one, start) for number, one in enumerate(history.entries)]


def _row(number: int, entry: HistoryEntry, start: int) -> StepRow:
    row, time = entry.row, f"{max(0, entry.at - start) / 1000:.3f} s"
    kind, name = entry.kind, entry.type or "message"
    if not isinstance(row, AttemptRow) or kind in ("replayed", "discarded"):
        publisher = row.app_id if isinstance(row, EventRow) else ""
        text = f"{name} {kind}" if kind != "replayed" else f"{name} replayed to {entry.details['queue']}"
        return StepRow(number, kind, time, text, publisher or "", None, "", "")
    delay = delay_text(row.delay or 0)
    how = {
        "handled": f"{name} handled",
        "duplicate": f"{name} skipped, a duplicate",
        "retried": f"attempt {row.attempt} failed, retry in {delay}",
    }.get(kind, f"attempt {row.attempt} failed, dead-lettered")
    waited = "" if row.sent_at is None else duration(max(0, row.began_at - row.sent_at))
    took = duration(max(0, row.ended_at - row.began_at))
    return StepRow(number, kind, time, how, row.instance, row.pid, waited, took)


def default_step(history: OrderHistory) -> int:
    """Return the step that explains most: the last failed attempt, or else the first step."""
    failed = [number for number, one in enumerate(history.entries) if one.kind in ("retried", "dead_lettered")]
    return failed[-1] if failed else 0


def step_detail(history: OrderHistory, number: int) -> StepDetail:
    """Return the details of a step."""
    entry = history.entries[number]
    row = entry.row
    attempt = row if isinstance(row, AttemptRow) and entry.kind not in ("replayed", "discarded") else None
    message_id = row.id if isinstance(row, EventRow) else row.message_id if row is not None else ""
    event = next((one for one in history.events if one.id == message_id), None)
    payload = None if event is None else _payload(event.body)
    dead = {(one.queue, one.message_id) for one in history.dead_lettered}
    is_dead = attempt is not None and entry.kind == "dead_lettered" and (attempt.queue, message_id) in dead
    return StepDetail(
        number=number,
        kind=entry.kind,
        title=f"Attempt {attempt.attempt}" if attempt is not None else f"{entry.type or 'Message'} {entry.kind}",
        where=f"on {attempt.instance}" if attempt is not None else _by(event) if entry.is_published else "",
        error=(row.error or "") if isinstance(row, AttemptRow) and entry.kind != "replayed" else "",
        payload=None if payload is None else payload[:MOST_SHOWN],
        more=0 if payload is None else max(0, len(payload) - MOST_SHOWN),
        properties=_properties(event, message_id, attempt),
        headers=[] if event is None else [(escaped(name), _shown(value)) for name, value in event.headers.items()],
        about="" if event is None else _about(event),
        dead_letter_queue=attempt.queue if attempt is not None and is_dead else "",
        message_id=message_id,
    )


def _by(event: EventRow | None) -> str:
    return f"by {event.app_id}" if event is not None and event.app_id else ""


def _payload(body: str) -> str:
    """Return a body as readable text. A JSON body is indented."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return escaped(body)
    return escaped_json(indented(body))


def _properties(event: EventRow | None, message_id: str, attempt: AttemptRow | None) -> list[tuple[str, str]]:
    found = [("message id", message_id)]
    if event is not None:
        found += [
            ("type", event.type),
            ("correlation id", event.order_id or ""),
            ("causation id", event.causation_id or ""),
            ("exchange", event.exchange or "the default exchange"),
            ("routing key", event.routing_key),
            ("content type", event.content_type or ""),
            ("published by", event.app_id or ""),
        ]
    if attempt is not None:
        found += [("queue", attempt.queue), ("attempt", str(attempt.attempt))]
        found += [("replays", str(attempt.replays))] if attempt.replays else []
        found += [("redelivered", "true")] if attempt.redelivered else []
    return [(name, escaped(value)) for name, value in found if value]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return escaped(text[:MOST_SHOWN])


def _about(event: EventRow) -> str:
    size = len(event.body.encode("utf-8", "replace"))
    publisher = f", published by {event.app_id}" if event.app_id else ""
    return f"{event.type or 'message without a type'}, {size:,} bytes{publisher}"
