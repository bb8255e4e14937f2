"""pika's connection, with a short way for what comes and goes with each message.

Everything else, and each message that is out of the ordinary, takes pika's own way. The names with an underscore are
pika's; what they do is held to it by tests that run both ways over the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
from pika import frame
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport
from pika.channel import Channel as PikaChannel

from runner.amqp import content, decoder, frames

#: Bytes that are read at once; pika reads 4096, and gives the lock of Python's threads away for each of them.
READ_SIZE = 65536
#: Bytes that are sent at once, unless one message has more.
SEND_SIZE = 65536
#: Frames whose size is where it is in all of them, which the protocol's own header is not.
_KINDS = frozenset({frames.METHOD, frames.HEADER, frames.BODY, pika.spec.FRAME_HEARTBEAT})


class Channel(PikaChannel):  # type: ignore[misc]
    """A channel whose publishes, deliveries, acks and confirms are read and written by ``frames``."""

    #: Gets each confirm, as ``confirm_delivery`` was told.
    on_confirm: Callable[[Any], object] | None = None

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: pika.BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        """As pika's; what is written in one round of the I/O loop is sent together."""
        if (
            isinstance(properties, content.Properties)
            and properties.encoded
            and len(body) <= self.connection._body_max_length
        ):
            self._raise_if_not_open()
            self.connection.write(
                frames.publish(
                    self.channel_number, exchange, routing_key, properties.encoded, body, mandatory=mandatory
                )
            )
        else:
            super().basic_publish(exchange, routing_key, body, properties, mandatory)

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """As pika's."""
        self._raise_if_not_open()
        self.connection.write(frames.ack(self.channel_number, delivery_tag, multiple=multiple))

    def confirm_delivery(
        self, ack_nack_callback: Callable[[Any], object], callback: Callable[[Any], object] | None = None
    ) -> None:
        """As pika's."""
        super().confirm_delivery(ack_nack_callback, callback)
        self.on_confirm = ack_nack_callback

    def receiver(self, tag: str | bytes) -> Callable[..., object] | None:
        """What gets the deliveries of a consumer; None where pika must look at them, as after a cancel."""
        receiver: Callable[..., object] | None = None if tag in self._cancelled else self._consumers.get(tag)
        return receiver


class Connection(pika.SelectConnection):  # type: ignore[misc]
    """A connection that reads and writes many messages at once."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._outgoing: list[bytes] = []
        self._frame_buffer = b""
        super().__init__(*arguments, **named)

    def write(self, encoded: bytes) -> None:
        """Have frames sent in their turn, at the latest at the next ``flush``."""
        self._outgoing.append(encoded)

    def flush(self) -> None:
        """Send what was written, with as few calls as can be."""
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            for encoded in _joined(outgoing):
                self._send(encoded)

    def _send(self, encoded: bytes) -> None:
        transport = self._transport
        if transport is None:
            return  # it is lost, and whoever wrote that is told so
        self.bytes_sent += len(encoded)
        sent = 0
        is_plain = isinstance(transport, _AsyncPlaintextTransport) and transport._state == transport._STATE_ACTIVE
        if is_plain and not transport.get_write_buffer_size():
            # At once, rather than after a round of asking whether it may be written. Where that fails, pika's own
            # attempt meets with the same, and knows what to do.
            with contextlib.suppress(OSError):
                sent = transport._sock.send(encoded)
        if sent < len(encoded):
            self._adapter_emit_data(encoded[sent:])

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        self.flush()  # what was written before goes first
        super()._output_marshaled_frames(marshaled_frames)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], object] | None) -> Channel:
        return Channel(self, channel_number, on_open_callback)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_SIZE
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        raw = self._frame_buffer + data_in if self._frame_buffer else data_in
        at, end = 0, len(raw)
        while end - at >= frames.FRAME_OVERHEAD:
            after = self._take(raw, at, end)
            if after == at:
                break
            self.bytes_received += after - at
            at = after
        self._frame_buffer = raw[at:] if at else raw

    def _take(self, raw: bytes, at: int, end: int) -> int:
        """Read the frame, or the whole message, that begins at ``at``; where the next one begins, or ``at`` again."""
        kind, number, size = frames.HEAD.unpack_from(raw, at)
        if kind not in _KINDS:
            return self._leave_to_pika(raw, at, end)
        after: int = at + frames.FRAME_OVERHEAD + size
        if after > end:
            return at
        channel = self._channels.get(number)
        if kind == frames.METHOD and isinstance(channel, Channel) and raw[after - 1] == frames.END:
            method = int.from_bytes(raw[at + 7 : at + 11], "big")
            if method == frames.DELIVER:
                return self._deliver(channel, raw, at, after, end)
            if method == frames.ACK and channel.on_confirm is not None:
                tag, multiple = frames.read_ack(raw, at)
                channel.on_confirm(frame.Method(number, pika.spec.Basic.Ack(tag, multiple)))
                return after
        return self._leave_to_pika(raw, at, after)

    def _deliver(self, channel: Channel, raw: bytes, at: int, header: int, end: int) -> int:
        body, after = frames.message_extent(raw, channel.channel_number, header, end)
        if after == frames.PARTIAL:
            return at
        method = frames.read_deliver(raw, at)
        receive = channel.receiver(method.consumer_tag)
        if after == frames.RARE or receive is None:
            return self._leave_to_pika(raw, at, header)
        properties = decoder.read_properties(raw, header + frames.PROPERTIES_AT, body - 1)
        receive(channel, method, properties, raw[body + frames.HEAD.size : after - 1])
        return after

    def _leave_to_pika(self, raw: bytes, at: int, after: int) -> int:
        consumed: int
        if raw[at] == frames.HEADER and after - at >= frames.HEADER_OVERHEAD and raw[after - 1] == frames.END:
            # The header of a large message, a return or an answer to ``basic.get``. pika would end the connection if
            # it could not decode the header.
            number, length = frames.read_header(raw, at)
            properties = decoder.read_properties(raw, at + frames.PROPERTIES_AT, after - 1)
            consumed, value = after - at, frame.Header(number, length, properties)
        else:
            consumed, value = frame.decode_frame(raw[at:after])
        if not value:
            return at
        self._process_frame(value)
        return at + consumed


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces together, but not more than that pika may copy what is left of them after each send of a part."""
    some: list[bytes] = []
    size = 0
    for piece in pieces:
        if some and size + len(piece) > SEND_SIZE:
            yield b"".join(some)
            some, size = [], 0
        some.append(piece)
        size += len(piece)
    yield b"".join(some)
