"""The only module that knows the private names of pika: what our connections do otherwise than pika's.

pika makes an object of each frame, sends each with a call, and ends the connection if it cannot decode a property. So
messages, acks and confirms are read and written by ``runner.amqp.wire``, and all else is pika's. With
``FASTCOMMERCE_PIKA=plain`` in the environment all frames are pika's own too; only properties and the values of tables
are not, because pika cannot read or write all that a sender may have written. Every guarantee holds both ways, and
tests run both.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any

import pika
from pika import data, exceptions, frame
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from runner.amqp.wire.field_table import write_value
from runner.amqp.wire.frame_codec import BasicDeliver, FrameReader, write_ack, write_publish
from runner.amqp.wire.property_codec import Properties, read_properties
from runner.errors import ConfigError

#: The environment variable that says which connection to use: ``plain`` for pika's own.
VARIABLE = "FASTCOMMERCE_PIKA"
#: The version of pika whose private names these are; pyproject.toml allows no other.
KNOWN_VERSION = "1.4"
#: Bytes that are read at once; pika reads 4096, and gives the lock of Python's threads away for each of them.
READ_SIZE = 65536
#: Bytes that are sent at once; after each send of a part pika copies what is left of them.
SEND_SIZE = 65536


class _ReceivedProperties(pika.BasicProperties):  # type: ignore[misc]
    """Properties in a frame that pika reads; they have all attributes of ``Properties``."""

    def decode(self, encoded: bytes, offset: int = 0) -> _ReceivedProperties:
        self.__dict__.update(read_properties(encoded[offset:]))
        return self


def _encode_value(pieces: list[bytes], value: Any) -> int:
    pieces.append(write_value(value))
    return len(pieces[-1])


# By public names of pika, which reads a double as a whole number and writes none, recurses as deep as a sender nests,
# and ends the connection if it cannot decode a value.
pika.spec.props[_ReceivedProperties.INDEX] = _ReceivedProperties
data.encode_value = _encode_value
# What pika would log is said by the link or the session that it happened to, once and in our words.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def chosen_connection() -> type[Any]:
    """Return the class of connections: ``FastConnection``, or pika's own if the environment says so.

    Raises ConfigError for another value of the variable, and if the version of pika is not known.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice == "plain":
        return pika.SelectConnection  # type: ignore[no-any-return]
    if choice:
        raise ConfigError([f"{VARIABLE}: unknown value {choice!r}; allowed: plain, or no value"])
    if not pika.__version__.startswith(f"{KNOWN_VERSION}."):
        allowed = f"{KNOWN_VERSION}, or any with {VARIABLE}=plain in the environment"
        raise ConfigError([f"pika: unknown version {pika.__version__}; allowed: {allowed}"])
    return FastConnection


def terminate(connection: Any, reason: str) -> None:
    """Lose a connection as by a broken network: its socket is closed, and the broker is told nothing.

    So does pika if heartbeats are missed; nothing public closes a connection without AMQP's goodbye. And pika 1.4.4
    ends its loop with an AssertionError if a connection is closed in order during the handshake.
    """
    connection._terminate_stream(exceptions.StreamLostError(reason))


class PikaLoop(IOLoop):  # type: ignore[misc]
    """pika's loop, which sends what was written in a round with one call, and then calls ``on_round``."""

    def __init__(self, on_round: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_round = on_round
        #: The connections with something to send at the end of the round.
        self.written: list[FastConnection] = []

    def process_timeouts(self) -> None:
        """What the poller calls once it has called all for whom something came."""
        super().process_timeouts()
        written, self.written = self.written, []
        for connection in written:
            connection.flush()
        self._on_round()


class FastChannel(Channel):  # type: ignore[misc]
    """A channel whose publishes, acks, deliveries and confirms are read and written by ``runner.amqp.wire``."""

    #: Gets each confirm, as ``confirm_delivery`` was told.
    on_confirm: Callable[[Any], object] | None = None

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Any = None, mandatory: bool = False
    ) -> None:
        """As pika's; what is written in one round of the I/O loop is sent together."""
        if isinstance(properties, Properties) and len(body) <= self.connection._body_max_length:
            self._raise_if_not_open()
            encoded = properties.encoded
            self.connection.write(
                write_publish(self.channel_number, exchange, routing_key, encoded, body, mandatory=mandatory)
            )
        else:
            super().basic_publish(exchange, routing_key, body, properties, mandatory)

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """As pika's."""
        self._raise_if_not_open()
        self.connection.write(write_ack(self.channel_number, delivery_tag, multiple=multiple))

    def confirm_delivery(
        self, ack_nack_callback: Callable[[Any], object], callback: Callable[[Any], object] | None = None
    ) -> None:
        """As pika's."""
        super().confirm_delivery(ack_nack_callback, callback)
        self.on_confirm = ack_nack_callback

    def deliver(self, event: BasicDeliver) -> None:
        """Give a delivery to its consumer."""
        receive = self._consumers.get(event.consumer_tag)
        if receive is None or event.consumer_tag in self._cancelled:
            # pika rejects what comes for a consumer that was cancelled.
            header = frame.Header(event.channel, len(event.body), event.properties)
            self._on_deliver(frame.Method(event.channel, event), header, event.body)
        else:
            receive(self, event, event.properties, event.body)


class FastConnection(pika.SelectConnection):  # type: ignore[misc]
    """A connection that reads and writes many messages at once; its loop is a ``PikaLoop``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._outgoing: list[bytes] = []
        self._reader = FrameReader()
        super().__init__(*arguments, **named)

    def write(self, encoded: bytes) -> None:
        """Have frames sent in their turn, at the latest at the end of the loop's round."""
        if not self._outgoing:
            self.ioloop.written.append(self)
        self._outgoing.append(encoded)

    def flush(self) -> None:
        """Send what was written, with as few calls as can be."""
        outgoing, self._outgoing = b"".join(self._outgoing), []
        for begin in range(0, len(outgoing), SEND_SIZE):
            self._send(outgoing[begin : begin + SEND_SIZE])

    def _send(self, encoded: bytes) -> None:
        transport = self._transport
        if transport is None:
            return  # it is lost, and whoever wrote that is told so
        self.bytes_sent += len(encoded)
        sent = 0
        is_direct = self.params.ssl_options is None and transport._state == transport._STATE_ACTIVE
        if is_direct and not transport.get_write_buffer_size():
            # At once, rather than after a round of asking whether it may be written. Where that fails, pika's own
            # attempt meets with the same, and knows what to do.
            with contextlib.suppress(OSError):
                sent = transport._sock.send(encoded)
        if sent < len(encoded):
            self._adapter_emit_data(encoded[sent:])

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        self.flush()  # what was written before goes first
        super()._output_marshaled_frames(marshaled_frames)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], object] | None) -> FastChannel:
        return FastChannel(self, channel_number, on_open_callback)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_SIZE
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        self.bytes_received += len(data_in)  # the broker's sign of life
        for event in self._reader.receive(data_in):
            if isinstance(event, bytes):
                self._process_frame(frame.decode_frame(event)[1])
            elif (channel := self._channels.get(event.channel)) is None:
                continue  # closed meanwhile; pika ignores its frames too
            elif isinstance(event, BasicDeliver):
                channel.deliver(event)
            else:
                confirm = frame.Method(event.channel, pika.spec.Basic.Ack(event.delivery_tag, event.multiple))
                if channel.on_confirm is not None:
                    channel.on_confirm(confirm)
                else:
                    self._process_frame(confirm)
