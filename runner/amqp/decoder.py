"""A message's properties and headers, decoded whatever the sender wrote (AMQP 0-9-1, 4.2.5 and 4.2.6).

A value that cannot be decoded stays bytes, and all other values are read.
"""

from __future__ import annotations

import struct
from typing import Any

import pika
from pika.compat import long

from runner.amqp.field import TooDeep, Undecodable, extent, read_value, text
from runner.headers import ORIGINAL, Undecoded

_QUAD, _LONG, _SHORT = struct.Struct(">Q"), struct.Struct(">I"), struct.Struct(">H")
_SIGNED_QUAD, _SIGNED_LONG = struct.Struct(">q"), struct.Struct(">i")
#: The bytes of the longest short string, its length byte included.
_LONGEST = 256

#: The property flags of AMQP 0-9-1, in their order on the wire; all are short strings except those that are named.
FLAGS = {
    "content_type": 1 << 15,
    "content_encoding": 1 << 14,
    "headers": 1 << 13,
    "delivery_mode": 1 << 12,
    "priority": 1 << 11,
    "correlation_id": 1 << 10,
    "reply_to": 1 << 9,
    "expiration": 1 << 8,
    "message_id": 1 << 7,
    "timestamp": 1 << 6,
    "type": 1 << 5,
    "user_id": 1 << 4,
    "app_id": 1 << 3,
    "cluster_id": 1 << 2,
}
_FIELDS = tuple(FLAGS.items())
_OCTETS = frozenset({"delivery_mode", "priority"})
_CONTINUED = 1


class Damaged(pika.BasicProperties):  # type: ignore[misc]
    """Properties that cannot be decoded completely; a header of known length is kept as ``Undecoded``."""

    def __init__(self, problem: str = "") -> None:
        super().__init__()
        #: The problem, for people; empty if only ``x-original`` is nested too deep to be decoded.
        self.problem = problem
        #: Bytes that belong to no property and no header; a message with such bytes cannot be copied.
        self.remainder = b""


def read_short(raw: bytes, at: int) -> tuple[str | bytes, int]:
    """Return the short string at ``at``, and the place of the next value."""
    end = at + 1 + raw[at]
    return text(raw[at + 1 : end]), end


def read_properties(raw: bytes, at: int, end: int) -> pika.BasicProperties:
    """Read the properties whose flags are at ``at``, and that end at ``end``; Damaged if they cannot be decoded."""
    properties = pika.BasicProperties()
    try:
        if _read_fields(raw, at, properties.__dict__) == end:
            return properties
    except (Undecodable, IndexError, struct.error):
        pass
    # Read again: keep the readable values, and never read beyond the end.
    return _salvaged(raw[at:end])


def _read_fields(raw: bytes, at: int, fields: dict[str, Any]) -> int:
    """Read all properties and return their end, which is beyond the header's end if one of them is too long."""
    (flags,) = _SHORT.unpack_from(raw, at)
    if flags & _CONTINUED:
        raise Undecodable("more flags than AMQP has properties")
    at += 2
    for name, flag in _FIELDS:
        if not flags & flag:
            continue
        if name == "headers":
            fields[name], at = _read_table(raw, at)
        elif name in _OCTETS:
            fields[name] = raw[at]
            at += 1
        elif name == "timestamp":
            fields[name] = _QUAD.unpack_from(raw, at)[0]
            at += 8
        else:
            fields[name], at = read_short(raw, at)
    return at


def _read_table(raw: bytes, at: int) -> tuple[dict[str | bytes, Any], int]:
    table: dict[str | bytes, Any] = {}
    end = at + 4 + _LONG.unpack_from(raw, at)[0]
    at += 4
    while at < end:
        name, stop = read_short(raw, at)
        kind = raw[stop]
        if kind == 0x53:  # S, a long string
            at = stop + 5 + _LONG.unpack_from(raw, stop + 1)[0]
            table[name] = text(raw[stop + 5 : at])
        elif kind == 0x6C:  # l, 64 bits
            table[name] = long(_SIGNED_QUAD.unpack_from(raw, stop + 1)[0])
            at = stop + 9
        elif kind == 0x49:  # I, 32 bits
            table[name] = _SIGNED_LONG.unpack_from(raw, stop + 1)[0]
            at = stop + 5
        else:
            table[name], at = read_value(raw, stop)
    if at != end:
        raise Undecodable("headers that are longer than their table")
    return table, at


def _salvaged(raw: bytes) -> Damaged:
    found = Damaged()
    at = 0
    try:
        (flags,) = _SHORT.unpack_from(raw, 0)
        at, more = 2, flags
        while more & _CONTINUED:
            (more,) = _SHORT.unpack_from(raw, at)
            at += 2
            if more & ~_CONTINUED:
                raise Undecodable("flags of properties that AMQP does not have")
        for name, flag in _FIELDS:
            if flags & flag:
                at = _salvage_field(found, raw, at, name)
        if at < len(raw):
            raise Undecodable(f"{len(raw) - at} bytes after the last one")
        if flags & _CONTINUED:
            raise Undecodable("more flags than AMQP has properties")
    except (Undecodable, IndexError, struct.error) as error:
        found.problem = found.problem or f"properties: cannot be decoded, {_words(error)}"
        # Never empty, because these properties must not be copied.
        found.remainder = found.remainder or raw[at:] or raw
    return found


def _salvage_field(found: Damaged, raw: bytes, at: int, name: str) -> int:
    if name == "headers":
        return _salvage_table(found, raw, at)
    fields: dict[str, Any] = {}
    # One property, with its flag before it.
    after = at - 2 + _read_fields(_SHORT.pack(FLAGS[name]) + raw[at : at + _LONGEST], 0, fields)
    if after > len(raw):
        raise Undecodable(f"{name} is longer than the message's header")
    found.__dict__.update(fields)
    return int(after)


def _salvage_table(found: Damaged, raw: bytes, at: int) -> int:
    end: int = at + 4 + _LONG.unpack_from(raw, at)[0]
    if end > len(raw):
        raise Undecodable("the table of headers is longer than the message's header")
    at += 4
    table: dict[str | bytes, Any] = {}
    found.headers = table
    raw = raw[:end]
    while at < end:
        name: str | bytes = ""
        begin = stop = at
        try:
            name, stop = read_short(raw, at)
            table[name], at = read_value(raw, stop)
            if at > end:
                raise Undecodable("longer than the table of headers")
        except (Undecodable, IndexError, struct.error) as error:
            table.pop(name, None)
            shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
            # A copy of a message that could be decoded has one level more there, and no handler needs it.
            if name != ORIGINAL or not isinstance(error, TooDeep):
                found.problem = found.problem or f"header {shown!r}: cannot be decoded, {_words(error)}"
            after = extent(raw, stop, end)
            if after is None:
                found.remainder = raw[begin:end]
                break
            table[name], at = Undecoded(raw[stop:after]), after
    return end


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Undecodable) else "the end is missing"
