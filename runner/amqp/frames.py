"""The frames that messages travel in, read and written in one go (AMQP 0-9-1, 2.3.5 and 4.2.5).

pika makes an object of each frame and a call of each field, which was the larger part of what a worker did. What these
functions do not know they leave to pika: for them it is all that is rare.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pika
from pika import data
from pika.compat import long

METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
#: Class and method of the methods that come or go with each message.
PUBLISH, RETURN, DELIVER, ACK = 0x3C0028, 0x3C0032, 0x3C003C, 0x3C0050
#: Bytes around the payload of a frame: its kind, channel and size, and the end.
HEAD, AROUND = struct.Struct(">BHI"), 8

_ACK = struct.Struct(">BHIIQBB")
_CONTENT = struct.Struct(">BHIHHQ")
_DELIVERY = struct.Struct(">QB")
_QUAD, _LONG, _SHORT = struct.Struct(">Q"), struct.Struct(">I"), struct.Struct(">H")
_SIGNED_QUAD, _SIGNED_LONG = struct.Struct(">q"), struct.Struct(">i")
#: Bytes of a content header around the properties.
AROUND_PROPERTIES = _CONTENT.size + 1
#: See ``extent``.
PARTIAL, RARE = -1, -2
_END = bytes([END])
_LONGEST = 255

#: The property flags of AMQP 0-9-1, in their order on the wire; each is a short string but for those that are named.
_FLAGS = {
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
_FIELDS = tuple(_FLAGS.items())
_OCTETS = frozenset({"delivery_mode", "priority"})
_CONTINUED = 1


class Properties(pika.BasicProperties):  # type: ignore[misc]
    """A message's properties, and the bytes that they are on the wire, from their flags on."""

    encoded: bytes = b""


class _Rare(Exception):
    """Something that pika is to write, or to refuse."""


def encode_properties(properties: pika.BasicProperties) -> bytes:
    """The properties as they go into a content header, from their flags on. Raises what pika raises."""
    try:
        # Its fields are in the order of their flags, as pika's constructor sets them.
        return _properties(properties.__dict__)
    except _Rare:
        header = pika.frame.Header(1, 0, properties).marshal()
        return bytes(header[_CONTENT.size : -1])


def _properties(fields: dict[str, Any]) -> bytes:
    flags, pieces = 0, [b""]
    for name, value in fields.items():
        if value is not None and name in _FLAGS:
            flags |= _FLAGS[name]
            pieces.append(_WRITERS.get(name, _short)(value))
    pieces[0] = _SHORT.pack(flags)
    return b"".join(pieces)


def _octet(value: Any) -> bytes:
    if type(value) is not int or not 0 <= value <= 255:
        raise _Rare
    return bytes((value,))


def _timestamp(value: Any) -> bytes:
    if type(value) is not int or value < 0 or value >= 1 << 64:
        raise _Rare
    return _QUAD.pack(value)


def _short(value: Any) -> bytes:
    if type(value) is not str:
        raise _Rare
    text = value.encode()
    if len(text) > _LONGEST:
        raise _Rare
    return bytes((len(text),)) + text


@lru_cache(maxsize=512)
def _key(name: str) -> bytes:
    return _short(name)


def _table(table: Any) -> bytes:
    if type(table) is not dict:
        raise _Rare
    pieces = [b""]
    for name, value in table.items():
        if type(name) is not str:
            raise _Rare
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


#: What is no short string, as all the others are.
_WRITERS: dict[str, Callable[[Any], bytes]] = {
    "headers": _table,
    "delivery_mode": _octet,
    "priority": _octet,
    "timestamp": _timestamp,
}


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The method frame of a publish, the same for each event of a type."""
    payload = b"".join(
        (_LONG.pack(PUBLISH), b"\0\0", _short(exchange), _short(routing_key), b"\1" if mandatory else b"\0")
    )
    return HEAD.pack(METHOD, channel, len(payload)) + payload + _END


def publish(channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool) -> bytes:
    """All frames of one ``basic.publish`` with a body that fits into one frame."""
    head = _publish(channel, exchange, routing_key, mandatory)
    header = _CONTENT.pack(HEADER, channel, 12 + len(properties), 60, 0, len(body))
    if not body:
        return b"".join((head, header, properties, _END))
    return b"".join((head, header, properties, _END, HEAD.pack(BODY, channel, len(body)), body, _END))


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """The frame of a ``basic.ack``."""
    return _ACK.pack(METHOD, channel, 13, ACK, tag, multiple, END)


def read_ack(raw: bytes, at: int) -> tuple[int, bool]:
    """Tag and ``multiple`` of a ``basic.ack`` whose frame begins at ``at``."""
    tag, bits = _DELIVERY.unpack_from(raw, at + 11)
    return tag, bool(bits & 1)


def read_deliver(raw: bytes, at: int) -> pika.spec.Basic.Deliver:
    """The ``basic.deliver`` whose frame begins at ``at``."""
    at += 11
    end = at + 1 + raw[at]
    tag = _text(raw[at + 1 : end])
    delivery_tag, bits = _DELIVERY.unpack_from(raw, end)
    at = end + 9
    end = at + 1 + raw[at]
    exchange = _text(raw[at + 1 : end])
    routing_key = _text(raw[end + 1 : end + 1 + raw[end]])
    return pika.spec.Basic.Deliver(tag, delivery_tag, bool(bits & 1), exchange, routing_key)


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # as pika does


def extent(raw: bytes, header: int, end: int) -> tuple[int, int]:
    """Where the body's frame of a message begins, and where the next frame does; ``header`` is where its header should.

    Instead of the latter PARTIAL where not all is here yet, up to ``end``, and RARE for a body of several frames, which
    pika puts together as it comes in, or a message that is not well formed. An empty body has no frame.
    """
    if end - header < AROUND:
        return end, PARTIAL
    kind, _, size = HEAD.unpack_from(raw, header)
    body = header + AROUND + size
    if kind != HEADER or body > end or raw[body - 1] != END:
        return body, PARTIAL if kind == HEADER and body > end else RARE
    length: int = _QUAD.unpack_from(raw, header + 11)[0]
    if not length:
        return body, body
    if end - body < AROUND:
        return body, PARTIAL
    kind, _, size = HEAD.unpack_from(raw, body)
    after = body + AROUND + size
    if kind != BODY or size != length or (after <= end and raw[after - 1] != END):
        return body, RARE
    return body, after if after <= end else PARTIAL


def read_properties(raw: bytes, at: int) -> pika.BasicProperties:
    """The properties in the content header whose frame begins at ``at``."""
    properties = pika.BasicProperties()
    at += 19
    (flags,) = _SHORT.unpack_from(raw, at)
    if flags & _CONTINUED:
        return properties.decode(raw, at)
    at += 2
    fields = properties.__dict__
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
            end = at + 1 + raw[at]
            fields[name] = _text(raw[at + 1 : end])
            at = end
    return properties


def _read_table(raw: bytes, at: int) -> tuple[dict[str | bytes, Any], int]:
    table: dict[str | bytes, Any] = {}
    end = at + 4 + _LONG.unpack_from(raw, at)[0]
    at += 4
    while at < end:
        stop = at + 1 + raw[at]
        name = _text(raw[at + 1 : stop])
        kind = raw[stop]
        if kind == 0x53:  # S, a long string
            at = stop + 5 + _LONG.unpack_from(raw, stop + 1)[0]
            table[name] = _text(raw[stop + 5 : at])
        elif kind == 0x6C:  # l, 64 bits
            table[name] = long(_SIGNED_QUAD.unpack_from(raw, stop + 1)[0])
            at = stop + 9
        elif kind == 0x49:  # I, 32 bits
            table[name] = _SIGNED_LONG.unpack_from(raw, stop + 1)[0]
            at = stop + 5
        else:
            table[name], at = data.decode_value(raw, stop)
    return table, at
