"""Header values that pika cannot read or write as they are.

It cuts a double to a whole number, fails on a timestamp that Python has no date for (such as milliseconds, as other
languages' clients send them), and writes no double. A message that is retried, parked or moved keeps its headers.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

from pika import data


class Timestamp(int):
    """An AMQP timestamp that is no date in Python."""


_decode, _encode = data.decode_value, data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """Read one field value (AMQP 0-9-1, 4.2.5.3) and say where the next one begins."""
    match encoded[offset : offset + 1]:
        case b"d":
            return struct.unpack_from(">d", encoded, offset + 1)[0], offset + 9
        case b"f":
            return struct.unpack_from(">f", encoded, offset + 1)[0], offset + 5
        case b"T":
            (seconds,) = struct.unpack_from(">Q", encoded, offset + 1)
            try:
                return datetime.fromtimestamp(seconds, UTC), offset + 9
            except (ValueError, OverflowError, OSError):
                return Timestamp(seconds), offset + 9
    result: tuple[Any, int] = _decode(encoded, offset)
    return result


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Append one field value; returns its length in bytes."""
    if isinstance(value, float | Timestamp):
        pieces.append(struct.pack(">cd", b"d", value) if isinstance(value, float) else struct.pack(">cQ", b"T", value))
        return 9
    result: int = _encode(pieces, value)
    return result


def install() -> None:
    """Let pika use these, also for what stands inside tables and lists."""
    data.decode_value, data.encode_value = decode_value, encode_value
