"""A parked message as JSON, with all that AMQP says of it and nothing lost."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.headers import ACQUIRED_COUNT, DELIVERY_COUNT, Timestamp, Undecoded, seconds_of

_COUNTERS = (DELIVERY_COUNT, ACQUIRED_COUNT)


def content_of(letter: DeadLetter) -> dict[str, Any]:
    """Return a message of any queue as it was delivered.

    A body that is UTF-8 is text, any other is base64, as ``body_encoding`` says. Values that JSON does not have are
    objects with one key: ``$bytes`` (base64), ``$timestamp`` (ISO 8601, UTC, or seconds), ``$decimal``, ``$float``, and
    ``$undecoded`` (base64) for a value that cannot be decoded: its bytes in AMQP, type and length included.
    """
    try:
        body, encoding = letter.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(letter.body).decode(), "base64"
    return {
        "id": letter.id,
        "queue": letter.queue,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "properties": {name: plain(value) for name, value in letter.properties.items() if value is not None},
        "headers": plain(letter.headers),
        "body_encoding": encoding,
        "body": body,
    }


def record_of(letter: DeadLetter, origin: str | None) -> dict[str, Any]:
    """Return all of a dead letter: its content, as ``content_of`` has it, and what its headers say of its past."""
    content = content_of(letter)
    exchange, key = letter.published
    return {
        "id": letter.id,
        "queue": letter.queue,
        "origin": origin,
        "origin_exchange": None if key is None else exchange,
        "origin_routing_key": key,
        "error": letter.error,
        "parked_at": iso(letter.parked_at),
        "replays": letter.replays,
        "replayed_at": iso(seconds_of(letter.replayed_at)),
        **{name: content[name] for name in ("properties", "headers", "body_encoding", "body")},
    }


def fingerprint(letter: DeadLetter) -> bytes:
    """The same at each look at a message, and another for each that differs in anything."""
    # A quorum queue counts the looks, and sorts the headers of what it delivers once more.
    headers = {name: value for name, value in letter.headers.items() if name not in _COUNTERS}
    known = [plain(letter.properties), plain(headers), letter.exchange, letter.routing_key]
    text = json.dumps(known, sort_keys=True).encode()
    return hashlib.blake2b(text + b"\0" + letter.body, digest_size=16).digest()


def iso(seconds: float | None) -> str | None:
    """``2026-11-25T18:03:39Z``; None for none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(value: Any) -> Any:
    """An AMQP value in JSON's types."""
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
        # A time for which Python has no date is a whole number of a type of its own.
        result = {"$timestamp": int(value)} if isinstance(value, Timestamp) else int(value)
    elif isinstance(value, float):
        result = value if math.isfinite(value) else {"$float": str(value)}
    elif isinstance(value, Mapping):
        result = {text_of(name): plain(one) for name, one in value.items()}
    elif isinstance(value, list | tuple):
        result = [plain(one) for one in value]
    return result
