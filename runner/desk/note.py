"""The note of a message that a person discarded, so that nothing leaves the desk without a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.desk.letter import number_of, text_of
from runner.messages import ATTEMPT, ATTEMPT_TYPE, Event, name_based_id

#: What stands for a service in the note: no service had the message.
DESK = "desk"
#: Whoever reads notes keeps counts in 32 bits.
_MOST = 2**31 - 2


def discard_note(record: Mapping[str, Any], number: int, queue: str, now: int) -> Event:
    """The note, to be sent to ``queue`` by the default exchange, of a message that ``record_of`` has written down.

    ``number`` tells apart messages that are alike in everything; ``now`` is in milliseconds since the epoch.
    """
    properties, headers = record["properties"], record["headers"]
    order_id = text_of(properties.get("correlation_id")) or None
    origin = record["origin"] or record["queue"]
    body = {
        "order_id": order_id,
        "message_id": record["id"],
        "message_type": text_of(properties.get("type")),
        "queue": origin,
        "service": DESK,
        # In the place of the process that had it: the queue that it was taken from.
        "instance": record["queue"],
        # After the try that parked it, also where this machine's clock is behind the worker's.
        "attempt": min(max(number_of(headers.get(ATTEMPT)), 1), _MOST) + 1,
        "replays": min(int(record["replays"]), _MOST),
        "outcome": "discarded",
        "error": record["error"],
        "delay": None,
        "sent_at": None,
        "began_at": now,
        "ended_at": now,
        "redelivered": False,
        "replayed_at": None,
    }
    which = f"{origin}/{record['id']}/{record['queue']}/{now}/{number}"
    return Event(
        ATTEMPT_TYPE,
        body,
        exchange="",
        routing_key=queue,
        id=name_based_id(which),
        correlation_id=order_id,
        causation_id=record["id"],
        app_id=DESK,
    )
