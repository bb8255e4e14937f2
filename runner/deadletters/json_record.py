"""Lossless conversion of a message, with all its AMQP properties, to JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.deadletters.grouping import DeadLetterGroup
from runner.headers import ACQUIRED_COUNT, DELIVERY_COUNT, Timestamp, Undecoded, seconds_of

_COUNTERS = (DELIVERY_COUNT, ACQUIRED_COUNT)


def content_of(message: DeadLetter) -> dict[str, Any]:
    """Return the content of a message that was delivered from any queue.

    A UTF-8 body becomes text, and any other body becomes base64. ``body_encoding`` names the encoding. Values without a
    JSON type become objects with one key:

    - ``$bytes`` (base64)
    - ``$timestamp`` (ISO 8601, UTC, or seconds)
    - ``$decimal``
    - ``$float``
    - ``$undecoded`` (base64), the AMQP bytes of a value that cannot be decoded, including its type and length
    """
    try:
        body, encoding = message.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(message.body).decode(), "base64"
    return {
        "id": message.id,
        "queue": message.queue,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": {name: plain(value) for name, value in message.properties.items() if value is not None},
        "headers": plain(message.headers),
        "body_encoding": encoding,
        "body": body,
    }


def record_of(message: DeadLetter, origin: str | None) -> dict[str, Any]:
    """Return the content of a dead letter from ``content_of``, with the history from its headers."""
    content = content_of(message)
    exchange, key = message.published
    return {
        "id": message.id,
        "queue": message.queue,
        "origin": origin,
        "origin_exchange": None if key is None else exchange,
        "origin_routing_key": key,
        "error": message.error,
        "dead_lettered_at": iso(message.dead_lettered_at),
        "replays": message.replays,
        "replayed_at": iso(seconds_of(message.replayed_at)),
        **{name: content[name] for name in ("properties", "headers", "body_encoding", "body")},
    }


def group_record(group: DeadLetterGroup) -> dict[str, Any]:
    """Return a group of dead letters as JSON. Spans of numbers are lists of the smallest and the largest number."""
    frame = group.cause.frame
    return {
        "queue": group.queue,
        "origin": group.origin,
        "error": group.error,
        "count": group.count,
        "first": iso(group.first),
        "last": iso(group.last),
        "latest_id": group.example,
        "fingerprint": group.cause.fingerprint,
        "exception": group.cause.exception or None,
        "frame": None if frame is None else asdict(frame),
        "kinds": len(group.kinds),
        "attempts": group.attempts,
        "replays": group.replays,
        "last_hour": group.last_hour,
    }


def digest(message: DeadLetter) -> bytes:
    """Return a hash that does not change when the message is read again. Different messages have different hashes."""
    # A quorum queue adds delivery counts to a redelivered message, and may reorder its headers.
    headers = {name: value for name, value in message.headers.items() if name not in _COUNTERS}
    known = [plain(message.properties), plain(headers), message.exchange, message.routing_key]
    text = json.dumps(known, sort_keys=True).encode()
    return hashlib.blake2b(text + b"\0" + message.body, digest_size=16).digest()


def iso(seconds: float | None) -> str | None:
    """Return a time in UTC, such as ``2026-11-25T18:03:39Z``, or None if ``seconds`` is None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(value: Any) -> Any:
    """Convert an AMQP value to JSON types."""
    result: Any = str(value)
    if value is None or isinstance(value, bool | str):
        result = value
    elif isinstance(value, Undecoded):
        result = {"$undecoded": base64.b64encode(value).decode()}
    elif isinstance(value, bytes | bytearray):
        result = {"$bytes": base64.b64encode(value).decode()}
    elif isinstance(value, datetime):
        result = {"$timestamp": value.astimezone(UTC).isoformat()}
    elif isinstance(value, Decimal):
        result = {"$decimal": str(value)}
    elif isinstance(value, int):
        # A time outside the range of datetime is a ``Timestamp``, which is a subclass of int.
        result = {"$timestamp": int(value)} if isinstance(value, Timestamp) else int(value)
    elif isinstance(value, float):
        result = value if math.isfinite(value) else {"$float": str(value)}
    elif isinstance(value, Mapping):
        result = {text_of(name): plain(one) for name, one in value.items()}
    elif isinstance(value, list | tuple):
        result = [plain(one) for one in value]
    return result
