"""A message's properties and headers, written in one go (AMQP 0-9-1, 4.2.5 and 4.2.6).

pika writes or refuses all other table values: those that are neither texts nor numbers, or that do not fit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pika
from pika import data

from runner.amqp.decoder import FLAGS, read_properties

_QUAD, _LONG, _SHORT = struct.Struct(">Q"), struct.Struct(">I"), struct.Struct(">H")
_SIGNED_QUAD, _SIGNED_LONG = struct.Struct(">q"), struct.Struct(">i")
_LONGEST = 255
#: Bytes of the content header that pika writes before the properties.
_HEAD = 19


class Properties(pika.BasicProperties):  # type: ignore[misc]
    """A message's properties as bytes, from their flags on; what they say is only read where somebody asks for it."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded

    def __getattr__(self, name: str) -> Any:
        # Only asked where pika's own constructor would have set it.
        if name not in FLAGS:
            raise AttributeError(name)
        self.__dict__.update(read_properties(self.encoded, 0, len(self.encoded)).__dict__)
        return self.__dict__[name]


class Rare(Exception):
    """Something that pika is to write, or to refuse."""


def write_properties(fields: Mapping[str, Any]) -> bytes:
    """Properties, in the order of their flags, as they go into a content header; None is none. Raises as pika."""
    flags, pieces = 0, [b""]
    try:
        for name, value in fields.items():
            if value is not None:
                flags |= FLAGS[name]
                pieces.append(_WRITERS.get(name, write_short)(value))
    except Rare:
        header = pika.frame.Header(1, 0, pika.BasicProperties(**fields)).marshal()
        return bytes(header[_HEAD:-1])
    pieces[0] = _SHORT.pack(flags)
    return b"".join(pieces)


def _octet(value: Any) -> bytes:
    if type(value) is not int or not 0 <= value <= 255:
        raise Rare
    return bytes((value,))


def _timestamp(value: Any) -> bytes:
    if type(value) is not int or value < 0 or value >= 1 << 64:
        raise Rare
    return _QUAD.pack(value)


def write_short(value: Any) -> bytes:
    """A short string with its length. Raises Rare for what is none."""
    if type(value) is not str:
        raise Rare
    text = value.encode()
    if len(text) > _LONGEST:
        raise Rare
    return bytes((len(text),)) + text


@lru_cache(maxsize=512)
def _key(name: str) -> bytes:
    return write_short(name)


def _frequent(value: Any) -> bytes:
    return _key(value) if type(value) is str else write_short(value)


def _table(table: Any) -> bytes:
    if type(table) is not dict:
        raise Rare
    pieces = [b""]
    for name, value in table.items():
        if type(name) is not str:
            raise Rare
        pieces.append(_key(name))
        if type(value) is str:
            text = value.encode()
            pieces.append(b"S" + _LONG.pack(len(text)))
            pieces.append(text)
        elif type(value) is int and -(1 << 63) <= value < 1 << 63:
            small = -(1 << 31) <= value < 1 << 31
            pieces.append(b"I" + _SIGNED_LONG.pack(value) if small else b"l" + _SIGNED_QUAD.pack(value))
        else:
            data.encode_value(pieces, value)
    encoded = b"".join(pieces)
    return _LONG.pack(len(encoded)) + encoded


#: What is no short string, as all the others are, or one that is the same for most messages of a process.
_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "content_type": _frequent,
    "type": _frequent,
    "app_id": _frequent,
    "headers": _table,
    "delivery_mode": _octet,
    "priority": _octet,
    "timestamp": _timestamp,
}
