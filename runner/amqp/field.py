"""Values of AMQP's tables, read in bounded time and depth (AMQP 0-9-1, 4.2.5.3 with RabbitMQ's errata), and written.

pika reads a double as a whole number, recurses as deep as a sender nests, fails on a timestamp that Python has no date
for, and writes no double. A message that is retried, dead-lettered or moved keeps its headers.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pika import data
from pika.compat import long

from runner.headers import Timestamp, Undecoded

#: Levels of tables and lists inside each other; RabbitMQ accepts as many as fit into a frame, 26,000.
MAX_DEPTH = 64
_LONG, _QUAD, _DECIMAL = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">Bi")
#: Values of one size. ``long`` keeps 64 bits, so that a copy has the type of its original.
_FIXED = {
    ord(kind): (struct.Struct(form), make)
    for kind, form, make in (
        ("t", ">B", bool), ("b", ">b", int), ("B", ">B", int), ("U", ">h", int), ("s", ">h", int), ("u", ">H", int),
        ("I", ">i", int), ("i", ">I", int), ("l", ">q", long), ("L", ">q", long), ("f", ">f", float),
        ("d", ">d", float),
    )
}  # fmt: skip
_TEXT, _BYTES, _LIST, _TABLE, _TIME, _NUMBER, _NOTHING = b"SxAFTDV"
_SIZED = frozenset((_TEXT, _BYTES, _LIST, _TABLE))


class Undecodable(ValueError):
    """Bytes that are not a value of AMQP, or a value that is nested too deep."""


class TooDeep(Undecodable):
    """A value with more levels than ``MAX_DEPTH``."""


def text(value: bytes) -> str | bytes:
    """Return a string, or its bytes if they are not UTF-8, as pika does."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def read_value(raw: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """Read the value at ``at`` and return it with the place of the next one.

    The caller compares that place with the end of what it reads. Raises Undecodable, and IndexError or struct.error
    if ``raw`` ends too soon.
    """
    kind, at = raw[at], at + 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        form, make = fixed
        return make(form.unpack_from(raw, at)[0]), at + form.size
    if kind in _SIZED:
        (size,) = _LONG.unpack_from(raw, at)
        at += 4
        end = at + size
        if end > len(raw):
            raise Undecodable(f"a length of {size} bytes, but only {len(raw) - at} follow")
        if kind == _TEXT:
            return text(raw[at:end]), end
        return (raw[at:end] if kind == _BYTES else _nested(raw, at, end, kind, depth + 1)), end
    return _rare(raw, at, kind)


def _rare(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == _TIME:
        (seconds,) = _QUAD.unpack_from(raw, at)
        try:
            return datetime.fromtimestamp(seconds, UTC), at + 8
        except (ValueError, OverflowError, OSError):
            return Timestamp(seconds), at + 8
    if kind == _NUMBER:
        scale, digits = _DECIMAL.unpack_from(raw, at)
        return Decimal(digits).scaleb(-scale), at + 5
    if kind == _NOTHING:
        return None, at
    raise Undecodable(f"unknown value type, {bytes((kind,))!r}")


def _nested(raw: bytes, at: int, end: int, kind: int, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeep(f"nested too deep; allowed: {MAX_DEPTH} levels")
    table: dict[str | bytes, Any] = {}
    values: list[Any] = []
    while at < end:
        if kind == _LIST:
            value, at = read_value(raw, at, depth)
            values.append(value)
        else:
            stop = at + 1 + raw[at]
            value, after = read_value(raw, stop, depth)
            table[text(raw[at + 1 : stop])] = value
            at = after
    if at != end:
        raise Undecodable("a value that is longer than its list or table")
    return values if kind == _LIST else table


def extent(raw: bytes, at: int, end: int) -> int | None:
    """Return the place after the value at ``at`` by its own length, or None if no length ends by ``end``."""
    if end - at < 5 or raw[at] not in _SIZED:
        return None
    after: int = at + 5 + _LONG.unpack_from(raw, at + 1)[0]
    return after if after <= end else None


_encode = data.encode_value


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Append one field value and return its length in bytes."""
    if isinstance(value, Undecoded):
        pieces.append(bytes(value))
        return len(value)
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        number = int("".join(map(str, digits))) * (-1 if sign else 1)
        if isinstance(exponent, int) and -255 <= exponent <= 0 and -(1 << 31) <= number < 1 << 31:
            # pika would change the scale.
            pieces.append(struct.pack(">cBi", b"D", -exponent, number))
            return 6
    if isinstance(value, float | Timestamp):
        pieces.append(struct.pack(">cd", b"d", value) if isinstance(value, float) else struct.pack(">cQ", b"T", value))
        return 9
    result: int = _encode(pieces, value)
    return result


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """Read one field value for pika."""
    return read_value(encoded, offset)


def install() -> None:
    """Let pika use these, also for what stands inside tables and lists."""
    data.decode_value, data.encode_value = decode_value, encode_value
