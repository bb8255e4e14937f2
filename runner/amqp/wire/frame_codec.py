"""The frames that messages travel in, written and read in one go (AMQP 0-9-1, 2.3.5 and 4.2).

A client makes an object of each frame and a call of each field, which was the larger part of what a worker did. All
frames but those of a delivery and of a confirm are left to it as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from runner.amqp.wire.field_table import read_short, write_short
from runner.amqp.wire.property_codec import Properties

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE
#: Class and method of the methods that come or go with each message.
_PUBLISH, _DELIVER, _ACK = 0x3C0028, 0x3C003C, 0x3C0050
#: What a server sends that speaks another version of AMQP; all else is a frame.
_PROTOCOL = b"AMQP"
#: Kind, channel and size of a frame, and the bytes around its payload: those and the end.
_HEAD, _OVERHEAD = struct.Struct(">BHI"), 8

_ACK_FRAME = struct.Struct(">BHIIQBB")
_CONTENT = struct.Struct(">BHIHHQ")
_DELIVERY = struct.Struct(">QB")
_QUAD, _LONG = struct.Struct(">Q"), struct.Struct(">I")
#: Bytes of a content header's frame beside its properties.
HEADER_OVERHEAD = _CONTENT.size + 1
#: See ``_extent``.
_PARTIAL, _RARE = -1, -2
_END_BYTE = bytes([_END])


@dataclass(slots=True)
class BasicDeliver:
    """One ``basic.deliver`` with the message that belongs to it."""

    channel: int
    consumer_tag: str | bytes
    delivery_tag: int
    redelivered: bool
    exchange: str | bytes
    routing_key: str | bytes
    properties: Properties
    body: bytes


@dataclass(slots=True)
class BasicAck:
    """One ``basic.ack``, which confirms a publish, or all up to it."""

    channel: int
    delivery_tag: int
    multiple: bool


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The method frame of a publish, the same for each event of a type."""
    payload = b"".join(
        (_LONG.pack(_PUBLISH), b"\0\0", write_short(exchange), write_short(routing_key), b"\1" if mandatory else b"\0")
    )
    return _HEAD.pack(_METHOD, channel, len(payload)) + payload + _END_BYTE


def write_publish(
    channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool
) -> bytes:
    """Return all frames of one ``basic.publish`` with a body that fits into one frame."""
    head = _publish(channel, exchange, routing_key, mandatory)
    header = _CONTENT.pack(_HEADER, channel, 12 + len(properties), 60, 0, len(body))
    content = (_HEAD.pack(_BODY, channel, len(body)), body, _END_BYTE) if body else ()
    return b"".join((head, header, properties, _END_BYTE, *content))


def write_ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Return the frame of a ``basic.ack``."""
    return _ACK_FRAME.pack(_METHOD, channel, 13, _ACK, tag, multiple, _END)


class FrameReader:
    """Cuts what a connection receives into deliveries, confirms and other frames."""

    def __init__(self) -> None:
        #: The beginning of what has not come completely.
        self._rest = b""

    def receive(self, data: bytes) -> Iterator[BasicDeliver | BasicAck | bytes]:
        """Yield everything that is complete with these bytes; any other frame as its bytes, also if it is broken.

        Raises IndexError and struct.error for a delivery whose arguments are longer than all that has come.
        """
        raw = self._rest + data if self._rest else data
        at, end = 0, len(raw)
        while end - at >= _OVERHEAD:
            kind, channel, size = _HEAD.unpack_from(raw, at)
            after = at + _OVERHEAD + size
            if kind == _PROTOCOL[0] and raw.startswith(_PROTOCOL, at):
                after = at + _OVERHEAD
            if after > end:
                break
            if kind == _METHOD and raw[after - 1] == _END:
                method = _LONG.unpack_from(raw, at + 7)[0] if size > 4 else 0
                if method == _DELIVER:
                    body, stop = _extent(raw, channel, after, end)
                    if stop == _PARTIAL:
                        break
                    if stop != _RARE:
                        yield _deliver(raw, at, channel, after, body, stop)
                        at = stop
                        continue
                elif method == _ACK and after - at == _ACK_FRAME.size:
                    tag, bits = _DELIVERY.unpack_from(raw, at + 11)
                    yield BasicAck(channel, tag, bool(bits & 1))
                    at = after
                    continue
            yield raw[at:after]
            at = after
        self._rest = raw[at:] if at else raw


def _deliver(raw: bytes, at: int, channel: int, header: int, body: int, after: int) -> BasicDeliver:
    consumer_tag, at = read_short(raw, at + 11)
    tag, bits = _DELIVERY.unpack_from(raw, at)
    exchange, at = read_short(raw, at + _DELIVERY.size)
    routing_key, _ = read_short(raw, at)
    properties = Properties(raw[header + _CONTENT.size : body - 1])
    return BasicDeliver(
        channel, consumer_tag, tag, bool(bits & 1), exchange, routing_key, properties, raw[body + 7 : after - 1]
    )


def _extent(raw: bytes, number: int, header: int, end: int) -> tuple[int, int]:
    """Where the body's frame of a message begins, and where the next frame does; ``header`` is where its header should.

    Instead of the latter _PARTIAL where not all is here yet, up to ``end``, and _RARE for a body of several frames,
    or a message that is not well formed. An empty body has no frame.
    """
    if end - header < _OVERHEAD:
        return end, _PARTIAL
    kind, channel, size = _HEAD.unpack_from(raw, header)
    body = header + _OVERHEAD + size
    if kind != _HEADER or channel != number or body > end or raw[body - 1] != _END:
        return body, _PARTIAL if kind == _HEADER and channel == number and body > end else _RARE
    length: int = _QUAD.unpack_from(raw, header + 11)[0]
    if not length:
        return body, body
    if end - body < _OVERHEAD:
        return body, _PARTIAL
    kind, channel, size = _HEAD.unpack_from(raw, body)
    after = body + _OVERHEAD + size
    if kind != _BODY or channel != number or size != length or (after <= end and raw[after - 1] != _END):
        return body, _RARE
    return body, after if after <= end else _PARTIAL
