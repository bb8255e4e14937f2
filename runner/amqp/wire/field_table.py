"""A codec for field tables and their values (AMQP 0-9-1, 4.2.5, and RabbitMQ's errata).

Decoding is limited in time and depth. A decoded value is encoded again with the same type. Otherwise, the headers of a
retried, dead-lettered or moved message would change.
"""

from __future__ import annotations

import calendar
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from runner.headers import Timestamp, Undecoded

#: The maximum nesting depth of tables and lists. RabbitMQ accepts any depth that fits into a frame, about 26,000
#: levels.
MAX_DEPTH = 64
#: The maximum length of a short string in bytes, without its length byte.
MAX_SHORT = 255
_QUAD, _LONG = struct.Struct(">Q"), struct.Struct(">I")
_SIGNED_QUAD, _SIGNED_LONG, _DECIMAL = struct.Struct(">q"), struct.Struct(">i"), struct.Struct(">Bi")
_TEXT, _BYTES, _LIST, _TABLE, _TIME, _NUMBER, _NOTHING, _INT, _LONG_INT = b"SxAFTDVIl"
_SIZED = frozenset((_TEXT, _BYTES, _LIST, _TABLE))


class Undecodable(ValueError):
    """An error for bytes that are not an AMQP value, or for a value that is nested too deeply."""


class TooDeep(Undecodable):
    """An error for a value with more than ``MAX_DEPTH`` nesting levels."""


class Unencodable(ValueError):
    """An error for a value that has no AMQP type, or that is too large for its type."""


class LongInt(int):
    """An integer that is encoded with 64 bits, even if it fits into 32 bits."""


#: The binary format and the Python type of each AMQP type with a fixed size.
_FIXED: dict[int, tuple[struct.Struct, Callable[[Any], Any]]] = {
    ord(kind): (struct.Struct(form), make)
    for kind, form, make in (
        ("t", ">B", bool), ("b", ">b", int), ("B", ">B", int), ("U", ">h", int), ("s", ">h", int), ("u", ">H", int),
        ("I", ">i", int), ("i", ">I", int), ("l", ">q", LongInt), ("L", ">q", LongInt), ("f", ">f", float),
        ("d", ">d", float),
    )
}  # fmt: skip


def text(value: bytes) -> str | bytes:
    """Decode a string. Return the bytes unchanged if they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def read_short(raw: bytes, at: int) -> tuple[str | bytes, int]:
    """Return the short string at position ``at``, and the position of the next value."""
    end = at + 1 + raw[at]
    return text(raw[at + 1 : end]), end


def read_table(raw: bytes, at: int, depth: int = 0) -> tuple[dict[str | bytes, Any], int]:
    """Return the table at position ``at``, and the position of the next value.

    Raises the same errors as ``read_value``.
    """
    table: dict[str | bytes, Any] = {}
    end = at + 4 + _LONG.unpack_from(raw, at)[0]
    at += 4
    while at < end:
        name, stop = read_short(raw, at)
        kind = raw[stop]
        # Nearly all headers have these types, so their values are decoded here without a function call.
        if kind == _TEXT:
            at = stop + 5 + _LONG.unpack_from(raw, stop + 1)[0]
            table[name] = text(raw[stop + 5 : at])
        elif kind == _LONG_INT:
            table[name] = LongInt(_SIGNED_QUAD.unpack_from(raw, stop + 1)[0])
            at = stop + 9
        elif kind == _INT:
            table[name] = _SIGNED_LONG.unpack_from(raw, stop + 1)[0]
            at = stop + 5
        else:
            table[name], at = read_value(raw, stop, depth)
    if at != end:
        raise Undecodable("a value extends beyond the end of its table")
    return table, at


def read_value(raw: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """Return the value at position ``at``, and the position of the next value.

    The caller must check that the next position is not beyond the end of its data. Raises Undecodable for an invalid
    value, and IndexError or struct.error if ``raw`` is too short.
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
            raise Undecodable(f"the length is {size} bytes, but only {len(raw) - at} bytes follow")
        if kind == _TEXT:
            return text(raw[at:end]), end
        if kind == _BYTES:
            return raw[at:end], end
        if depth == MAX_DEPTH:
            raise TooDeep(f"nested too deeply; allowed: {MAX_DEPTH} levels")
        return read_table(raw, at - 4, depth + 1) if kind == _TABLE else _list(raw, at, end, depth + 1)
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


def _list(raw: bytes, at: int, end: int, depth: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    while at < end:
        value, at = read_value(raw, at, depth)
        values.append(value)
    if at != end:
        raise Undecodable("a value extends beyond the end of its list")
    return values, at


def extent(raw: bytes, at: int, end: int) -> int | None:
    """Return the end position of the value at ``at``, computed from its length.

    Return None if the value has no length, or if the length exceeds the data.
    """
    if end - at < 5 or raw[at] not in _SIZED:
        return None
    after: int = at + 5 + _LONG.unpack_from(raw, at + 1)[0]
    return after if after <= end else None


def write_short(value: Any) -> bytes:
    """Encode a short string with its length. A string that is not UTF-8 is passed as bytes.

    Raises Unencodable if the string is too long, or if ``value`` is not a string.
    """
    if isinstance(value, str):
        encoded = value.encode()
    elif isinstance(value, bytes):
        encoded = value
    else:
        raise Unencodable(f"not a string, {value!r:.60}")
    if len(encoded) > MAX_SHORT:
        raise Unencodable(f"has {len(encoded)} bytes; allowed: up to {MAX_SHORT}")
    return bytes((len(encoded),)) + encoded


@lru_cache(maxsize=512)
def write_frequent(value: Any) -> bytes:
    """Encode a short string that occurs in many messages, using a cache."""
    return write_short(value)


def write_table(table: Any) -> bytes:
    """Encode a table with its length. Raises Unencodable if AMQP cannot express a name or value."""
    if not isinstance(table, dict):
        raise Unencodable(f"not a table, {table!r:.60}")
    pieces: list[bytes] = []
    for name, value in table.items():
        pieces.append(write_frequent(name))
        if type(value) is str:  # like most values
            encoded = value.encode()
            pieces.append(b"S" + _LONG.pack(len(encoded)))
            pieces.append(encoded)
            continue
        try:
            pieces.append(_WRITERS.get(type(value), write_value)(value))
        except Unencodable as error:
            raise Unencodable(f"{name!r}, {error}") from error
    inner = b"".join(pieces)
    return _LONG.pack(len(inner)) + inner


def write_value(value: Any) -> bytes:
    """Encode a value with its type. Raises Unencodable if AMQP cannot express the value."""
    for kind in type(value).__mro__:
        write = _WRITERS.get(kind)
        if write is not None:
            return write(value)
    raise Unencodable(f"not an AMQP value, {value!r:.60}")


def _sized(kind: bytes, inner: bytes) -> bytes:
    return kind + _LONG.pack(len(inner)) + inner


def write_number(kind: bytes, form: struct.Struct, value: Any) -> bytes:
    """Encode a number with its type. Raises Unencodable if the number does not fit ``form``."""
    try:
        return kind + form.pack(value)
    except struct.error:
        raise Unencodable(f"the number {value!r:.60} does not fit into {8 * form.size} bits") from None


def _integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"I" + _SIGNED_LONG.pack(value)
    return write_number(b"l", _SIGNED_QUAD, value)


def _decimal(value: Decimal) -> bytes:
    # The value keeps its own scale if the digits fit.
    for form in (value, value.normalize()):
        sign, digits, exponent = form.as_tuple()
        if not isinstance(exponent, int) or exponent < -MAX_SHORT or exponent > 9:
            continue
        number = int("".join(map(str, digits))) * (-1 if sign else 1) * 10 ** max(exponent, 0)
        if -(1 << 31) <= number < 1 << 31:
            return b"D" + _DECIMAL.pack(max(-exponent, 0), number)
    raise Unencodable(f"the decimal {value} does not fit into 32 bits")


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    str: lambda value: _sized(b"S", value.encode()),
    bytes: lambda value: _sized(b"x", value),
    bool: lambda value: b"t\1" if value else b"t\0",
    int: _integer,
    LongInt: lambda value: write_number(b"l", _SIGNED_QUAD, value),
    float: lambda value: struct.pack(">cd", b"d", value),
    Decimal: _decimal,
    datetime: lambda value: write_number(b"T", _QUAD, calendar.timegm(value.utctimetuple())),
    dict: lambda value: b"F" + write_table(value),
    list: lambda value: _sized(b"A", b"".join(map(write_value, value))),
    type(None): lambda _: b"V",
    Timestamp: lambda value: write_number(b"T", _QUAD, value),
    Undecoded: bytes,
}
