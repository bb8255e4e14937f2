"""Lossless conversion between events and the bytes that a database stores."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner.messages import Event

_OPTIONAL = ("exchange", "routing_key", "correlation_id", "causation_id", "timestamp", "app_id")


def to_bytes(events: Sequence[Event]) -> bytes:
    """Encode events with their ids, exchanges and routing keys.

    Raises TypeError if AMQP does not support the type of a header.
    """
    return _ENCODER.encode([_fields(one) for one in events]).encode()


def from_bytes(raw: bytes) -> list[Event]:
    """Decode the result of ``to_bytes``."""
    return [Event(**one) for one in json.loads(raw, object_hook=_plain)]


def _fields(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {"type": event.type, "id": event.id, "content_type": event.content_type}
    found["body"] = event.encoded()
    if event.headers:
        found["headers"] = event.headers
    # Missing properties are omitted, because each byte is written to disk twice.
    for name in _OPTIONAL:
        value = getattr(event, name)
        if value is not None:
            found[name] = value
    return found


def _tagged(value: object) -> dict[str, str]:
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    raise TypeError(f"event: a header cannot be stored, {value!r}; allowed: the types of AMQP headers")


def _plain(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        match next(iter(found.items())):
            case ("$bytes", str(text)):
                return base64.b64decode(text)
            case ("$time", str(text)):
                return datetime.fromisoformat(text)
            case ("$decimal", str(text)):
                return Decimal(text)
    return found


_ENCODER = json.JSONEncoder(default=_tagged, separators=(",", ":"))
