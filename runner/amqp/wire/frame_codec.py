"""A codec for the frames of published messages, deliveries, acks and confirms (AMQP 0-9-1, 2.3.5 and 4.2).

The codec reads and writes all frames of a message in one step. When pika handled these frames, an object for each frame
and a call for each field took most of a worker's CPU time. Frames other than deliveries and confirms are still read by
pika.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from runner.amqp.wire.field_table import read_short, write_short
from runner.amqp.wire.property_codec import Properties

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE
#: The class and method ids of the AMQP methods that each message needs.
_PUBLISH, _DELIVER, _ACK = 0x3C0028, 0x3C003C, 0x3C0050
#: The start of a protocol header, which a server with another AMQP version sends. All other received data consists of
#: frames.
_PROTOCOL = b"AMQP"
#: The type, channel and size at the start of a frame, and the number of bytes in a frame besides the payload.
_HEAD, _OVERHEAD = struct.Struct(">BHI"), 8

_ACK_FRAME = struct.Struct(">BHIIQBB")
_CONTENT = struct.Struct(">BHIHHQ")
_DELIVERY = struct.Struct(">QB")
_QUAD, _LONG = struct.Struct(">Q"), struct.Struct(">I")
#: The number of bytes in a content header frame besides the properties.
HEADER_OVERHEAD = _CONTENT.size + 1
#: Results of ``_extent``.
_PARTIAL, _RARE = -1, -2
_END_BYTE = bytes([_END])


@dataclass(slots=True)
class BasicDeliver:
    """A ``basic.deliver`` method with its message."""

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
    """A ``basic.ack`` from the broker, which confirms one message, or all messages up to ``delivery_tag``."""

    channel: int
    delivery_tag: int
    multiple: bool


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the method frame of a ``basic.publish``. All events of a type share a cached frame."""
    payload = b"".join(
        (_LONG.pack(_PUBLISH), b"\0\0", write_short(exchange), write_short(routing_key), b"\1" if mandatory else b"\0")
    )
    return _HEAD.pack(_METHOD, channel, len(payload)) + payload + _END_BYTE


def write_publish(
    channel: int, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool
) -> bytes:
    """Return all frames of a ``basic.publish``. The body must fit into one frame."""
    head = _publish(channel, exchange, routing_key, mandatory)
    header = _CONTENT.pack(_HEADER, channel, 12 + len(properties), 60, 0, len(body))
    content = (_HEAD.pack(_BODY, channel, len(body)), body, _END_BYTE) if body else ()
    return b"".join((head, header, properties, _END_BYTE, *content))


def write_ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Return the frame of a ``basic.ack``."""
    return _ACK_FRAME.pack(_METHOD, channel, 13, _ACK, tag, multiple, _END)


class FrameReader:
    """A reader that splits received bytes into deliveries, confirms and other frames."""

    def __init__(self) -> None:
        #: The start of a frame or delivery that is still incomplete.
        self._rest = b""

    def receive(self, data: bytes) -> Iterator[BasicDeliver | BasicAck | bytes]:
        """Yield all deliveries, confirms and other frames that the bytes in ``data`` complete.

        Frames other than deliveries and confirms are yielded as bytes, even if they are malformed. Raises IndexError or
        struct.error if the arguments of a delivery are longer than the received data.
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
    """Return the position of a message's body frame, and the position of the next frame.

    ``header`` is the expected position of the content header, and ``end`` is the end of the received data. The second
    position is _PARTIAL for an incomplete message, and _RARE for a malformed message or a body with several frames. An
    empty body has no frame.
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
