"""The frames that messages travel in, read and written in one go (AMQP 0-9-1, 2.3.5 and 4.2.5).

pika makes an object of each frame and a call of each field, which was the larger part of what a worker did. What these
functions do not know they leave to pika: for them it is all that is rare.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import pika

from runner.amqp.content import write_short
from runner.amqp.decoder import read_short

METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
#: Class and method of the methods that come or go with each message.
PUBLISH, DELIVER, ACK = 0x3C0028, 0x3C003C, 0x3C0050
#: Bytes around the payload of a frame: its kind, channel and size, and the end.
HEAD, FRAME_OVERHEAD = struct.Struct(">BHI"), 8

_ACK = struct.Struct(">BHIIQBB")
_CONTENT = struct.Struct(">BHIHHQ")
_DELIVERY = struct.Struct(">QB")
_QUAD, _LONG = struct.Struct(">Q"), struct.Struct(">I")
#: Bytes from the begin of a content header's frame to its properties; and those with the end of the frame.
PROPERTIES_AT, HEADER_OVERHEAD = _CONTENT.size, _CONTENT.size + 1
#: See ``message_extent``.
PARTIAL, RARE = -1, -2
_END = bytes([END])


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The method frame of a publish, the same for each event of a type."""
    payload = b"".join(
        (_LONG.pack(PUBLISH), b"\0\0", write_short(exchange), write_short(routing_key), b"\1" if mandatory else b"\0")
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
    tag, at = read_short(raw, at + 11)
    delivery_tag, bits = _DELIVERY.unpack_from(raw, at)
    exchange, at = read_short(raw, at + _DELIVERY.size)
    routing_key, _ = read_short(raw, at)
    return pika.spec.Basic.Deliver(tag, delivery_tag, bool(bits & 1), exchange, routing_key)


def read_header(raw: bytes, at: int) -> tuple[int, int]:
    """Return the channel of a content header whose frame begins at ``at``, and the length of the message's body."""
    _, channel, _, _, _, length = _CONTENT.unpack_from(raw, at)
    return channel, length


def message_extent(raw: bytes, number: int, header: int, end: int) -> tuple[int, int]:
    """Where the body's frame of a message begins, and where the next frame does; ``header`` is where its header should.

    Instead of the latter PARTIAL where not all is here yet, up to ``end``, and RARE for a body of several frames, which
    pika puts together as it comes in, or a message that is not well formed. An empty body has no frame.
    """
    if end - header < FRAME_OVERHEAD:
        return end, PARTIAL
    kind, channel, size = HEAD.unpack_from(raw, header)
    body = header + FRAME_OVERHEAD + size
    if kind != HEADER or channel != number or body > end or raw[body - 1] != END:
        return body, PARTIAL if kind == HEADER and channel == number and body > end else RARE
    length: int = _QUAD.unpack_from(raw, header + 11)[0]
    if not length:
        return body, body
    if end - body < FRAME_OVERHEAD:
        return body, PARTIAL
    kind, channel, size = HEAD.unpack_from(raw, body)
    after = body + FRAME_OVERHEAD + size
    if kind != BODY or channel != number or size != length or (after <= end and raw[after - 1] != END):
        return body, RARE
    return body, after if after <= end else PARTIAL
