"""The note of a message that a person discarded, so that nothing leaves the desk without a record."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from runner.headers import ATTEMPT, count_of, name_of
from runner.messages import ATTEMPT_TYPE, Event, name_based_id

#: What stands for a service in the note: no service had the message.
DESK = "desk"


def discard_note(record: Mapping[str, Any], number: int, queue: str, now: int) -> Event:
    """The note, to be sent to ``queue`` by the default exchange, of a message that ``record_of`` has written down.

    ``number`` tells apart messages that are alike in everything; ``now`` is in milliseconds since the epoch.
    """
    properties, headers = record["properties"], record["headers"]
    order_id = name_of(_raw(properties.get("correlation_id"))) or None
    origin = record["origin"] or record["queue"]
    body = {
        "order_id": order_id,
        "message_id": record["id"],
        "message_type": name_of(_raw(properties.get("type"))),
        "queue": origin,
        "service": DESK,
        # In the place of the process that had it: the queue that it was taken from.
        "instance": record["queue"],
        # After the try that parked it, also where this machine's clock is behind the worker's.
        "attempt": (count_of(headers.get(ATTEMPT)) or 1) + 1,
        "replays": int(record["replays"]),
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


def _raw(value: object) -> object:
    """Return a record's property as an AMQP value; records contain bytes that are not UTF-8 as base64."""
    return base64.b64decode(value["$bytes"]) if isinstance(value, Mapping) and "$bytes" in value else value
