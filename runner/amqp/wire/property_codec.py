"""A codec for message properties (AMQP 0-9-1, 4.2.6).

The codec accepts properties from any sender. A value that cannot be decoded is kept as bytes, and all other values are
decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from runner.amqp.wire import field_table
from runner.amqp.wire.field_table import Undecodable, Unencodable
from runner.headers import ORIGINAL, Undecoded

_LONG, _SHORT = struct.Struct(">I"), struct.Struct(">H")

_NAMES = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
)  # fmt: skip
#: The flag of each property, in the order in which AMQP encodes the properties.
FLAGS = {name: 1 << (15 - place) for place, name in enumerate(_NAMES)}
_CONTINUED = 1
_OCTET, _QUAD = struct.Struct(">B"), struct.Struct(">Q")
#: The default values of all attributes of ``Properties``.
_NOTHING: dict[str, Any] = {**dict.fromkeys(FLAGS), "problem": "", "remainder": b""}


class Properties:
    """The properties of a message, which are stored as bytes and decoded when an attribute is first read.

    Each name in ``FLAGS`` is an attribute, which is None if the property was not sent. ``problem`` is the reason why
    the bytes cannot be decoded completely, or an empty string if they can. If only ``x-original`` is nested too deeply,
    ``problem`` is empty. ``remainder`` contains the bytes that do not belong to any property or header. A message with
    a remainder cannot be copied.
    """

    #: The id of the AMQP class ``basic``. pika reads this attribute and calls ``encode``.
    INDEX = 60

    def __init__(self, encoded: bytes = b"\0\0") -> None:
        #: The bytes of a content header, starting with the flags.
        self.encoded = encoded

    @classmethod
    def of(cls, **fields: Any) -> Properties:
        """Encode the given properties. Raises Unencodable if AMQP cannot express a value."""
        return cls(write_properties(fields))

    def __getattr__(self, name: str) -> Any:
        # Python calls this method only for attributes that are not set yet.
        if name not in _NOTHING:
            raise AttributeError(name)
        known = read_properties(self.encoded)
        known.update(self.__dict__)
        self.__dict__ = known
        return known[name]

    def encode(self) -> list[bytes]:
        """Return the encoded properties as a list with one item, as pika expects."""
        return [self.encoded]


def read_properties(raw: bytes) -> dict[str, Any]:
    """Decode all attributes of ``Properties`` from bytes that start with the flags."""
    fields = _NOTHING.copy()
    try:
        if _read_fields(raw, fields) == len(raw):
            return fields
    except (Undecodable, IndexError, struct.error):
        pass
    # If the fast method fails, the slow method keeps all readable values and never reads beyond the end of ``raw``.
    return _salvaged(raw)


def _read_fields(raw: bytes, fields: dict[str, Any]) -> int:
    """Decode all properties into ``fields``, and return the end position.

    If a property is too long, the end position is beyond the end of ``raw``.
    """
    (flags,) = _SHORT.unpack_from(raw, 0)
    if flags & _CONTINUED:
        raise Undecodable("too many property flags")
    at = 2
    for name, read in _readers(flags):
        fields[name], at = read(raw, at)
    return at


@lru_cache(maxsize=64)  # most messages of a queue have the same properties
def _readers(flags: int) -> tuple[tuple[str, Callable[[bytes, int], tuple[Any, int]]], ...]:
    return tuple((name, _CODECS[name][0]) for name, flag in FLAGS.items() if flags & flag)


def _salvaged(raw: bytes) -> dict[str, Any]:
    found = _NOTHING.copy()
    at = 0
    try:
        (flags,) = _SHORT.unpack_from(raw, 0)
        at, more = 2, flags
        while more & _CONTINUED:
            (more,) = _SHORT.unpack_from(raw, at)
            at += 2
            if more & ~_CONTINUED:
                raise Undecodable("unknown property flags")
        for name, flag in FLAGS.items():
            if flags & flag:
                at = _salvage_field(found, raw, at, name)
        if at < len(raw):
            raise Undecodable(f"{len(raw) - at} extra bytes after the last property")
        if flags & _CONTINUED:
            raise Undecodable("too many property flags")
    except (Undecodable, IndexError, struct.error) as error:
        found["problem"] = found["problem"] or f"properties: cannot be decoded, {_words(error)}"
        # The remainder is never empty, because a message with undecodable properties must not be copied.
        found["remainder"] = found["remainder"] or raw[at:] or raw
    return found


def _salvage_field(found: dict[str, Any], raw: bytes, at: int, name: str) -> int:
    if name == "headers":
        return _salvage_table(found, raw, at)
    fields: dict[str, Any] = {}
    # Only this property is decoded, as if the message had no other properties.
    after = at - 2 + _read_fields(_SHORT.pack(FLAGS[name]) + raw[at : at + 1 + field_table.MAX_SHORT], fields)
    if after > len(raw):
        raise Undecodable(f"{name} extends beyond the end of the content header")
    found.update(fields)
    return after


def _salvage_table(found: dict[str, Any], raw: bytes, at: int) -> int:
    end: int = at + 4 + _LONG.unpack_from(raw, at)[0]
    if end > len(raw):
        raise Undecodable("the headers table extends beyond the end of the content header")
    at += 4
    table: dict[str | bytes, Any] = {}
    found["headers"] = table
    raw = raw[:end]
    while at < end:
        name: str | bytes = ""
        begin = stop = at
        try:
            name, stop = field_table.read_short(raw, at)
            table[name], at = field_table.read_value(raw, stop)
            if at > end:
                raise Undecodable("the value extends beyond the end of the headers table")
        except (Undecodable, IndexError, struct.error) as error:
            table.pop(name, None)
            shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
            # Each copy adds a level to ``x-original``, and no handler needs this header.
            if name != ORIGINAL or not isinstance(error, field_table.TooDeep):
                found["problem"] = found["problem"] or f"header {shown!r}: cannot be decoded, {_words(error)}"
            after = field_table.extent(raw, stop, end)
            if after is None:
                found["remainder"] = raw[begin:end]
                break
            table[name], at = Undecoded(raw[stop:after]), after
    return end


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Undecodable) else "unexpected end of data"


def write_properties(fields: Mapping[str, Any]) -> bytes:
    """Encode properties, starting with the flags. Properties with the value None are omitted.

    Raises Unencodable if AMQP cannot express a value.
    """
    flags, pieces = 0, [b""]
    for name, flag, write in _WRITERS:
        value = fields.get(name)
        if value is not None:
            flags |= flag
            try:
                pieces.append(write(value))
            except Unencodable as error:
                raise Unencodable(f"{name}: {error}") from error
    pieces[0] = _SHORT.pack(flags)
    return b"".join(pieces)


def _number(form: struct.Struct) -> _Codec:
    def read(raw: bytes, at: int) -> tuple[int, int]:
        return form.unpack_from(raw, at)[0], at + form.size

    return read, partial(field_table.write_number, b"", form)


_Codec = tuple[Callable[[bytes, int], tuple[Any, int]], Callable[[Any], bytes]]
_TEXT, _FREQUENT = (
    (field_table.read_short, field_table.write_short),
    (field_table.read_short, field_table.write_frequent),
)
#: The decoder and encoder of each property. Strings that most messages of a process share are encoded with a cache.
_CODECS: dict[str, _Codec] = dict.fromkeys(FLAGS, _TEXT) | {
    "content_type": _FREQUENT,
    "type": _FREQUENT,
    "app_id": _FREQUENT,
    "headers": (field_table.read_table, field_table.write_table),
    "delivery_mode": _number(_OCTET),
    "priority": _number(_OCTET),
    "timestamp": _number(_QUAD),
}
_WRITERS = tuple((name, flag, _CODECS[name][1]) for name, flag in FLAGS.items())
