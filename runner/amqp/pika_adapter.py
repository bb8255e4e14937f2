"""A faster connection on top of pika. This is the only module that uses pika's private names.

pika creates an object for each frame, sends each frame with a separate call, and closes the connection if it cannot
decode a property. Therefore, ``runner.amqp.wire`` reads and writes messages, acks and confirms, while pika handles all
other frames.

If ``FASTCOMMERCE_PIKA=plain`` is in the environment, pika reads and writes all frames. ``runner.amqp.wire`` then only
decodes and encodes properties and table values, because pika cannot handle all values that senders write. All
guarantees apply in this mode too, and the tests cover both modes.
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

#: The environment variable that selects the connection class. The value ``plain`` selects pika's own class.
VARIABLE = "FASTCOMMERCE_PIKA"
#: The pika version whose private names this module uses. pyproject.toml allows no other version.
KNOWN_VERSION = "1.4"
#: The maximum number of bytes per read. By default, pika reads 4096 bytes, and each read releases Python's global
#: interpreter lock.
READ_SIZE = 65536
#: The maximum number of bytes per send. After a partial send, pika copies the remaining bytes.
SEND_SIZE = 65536


class _ReceivedProperties(pika.BasicProperties):  # type: ignore[misc]
    """Properties from a frame that pika has read, with all attributes of ``Properties``."""

    def decode(self, encoded: bytes, offset: int = 0) -> _ReceivedProperties:
        self.__dict__.update(read_properties(encoded[offset:]))
        return self


def _encode_value(pieces: list[bytes], value: Any) -> int:
    pieces.append(write_value(value))
    return len(pieces[-1])


# These pika names are public. pika's own functions decode a double as an integer, cannot encode a double, and recurse
# without a limit. If pika cannot decode a value, it closes the connection.
pika.spec.props[_ReceivedProperties.INDEX] = _ReceivedProperties
data.encode_value = _encode_value
# The link or the session reports each problem once, so pika does not need to log the problem again.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def chosen_connection() -> type[Any]:
    """Return the connection class that the environment selects. The default is ``FastConnection``.

    Raises ConfigError for an unknown value of the environment variable, or for an unknown pika version.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice == "plain":
        return pika.SelectConnection  # type: ignore[no-any-return]
    if choice:
        raise ConfigError([f"{VARIABLE}: unknown value {choice!r}; allowed: plain, or no value"])
    if not pika.__version__.startswith(f"{KNOWN_VERSION}."):
        allowed = f"{KNOWN_VERSION}, or any version if {VARIABLE}=plain is set"
        raise ConfigError([f"pika: unknown version {pika.__version__}; allowed: {allowed}"])
    return FastConnection


def terminate(connection: Any, reason: str) -> None:
    """Close a connection's socket without ``connection.close``, as if the network had failed.

    After missed heartbeats, pika also closes the socket without ``connection.close``, but offers no public function.
    During the handshake, ``connection.close`` would stop pika's event loop with an AssertionError (pika 1.4.4).
    """
    connection._terminate_stream(exceptions.StreamLostError(reason))


class PikaLoop(IOLoop):  # type: ignore[misc]
    """pika's event loop, which sends the queued frames of all connections at the end of each iteration.

    Each connection sends its frames with one call. Afterwards, the loop calls ``on_round``.
    """

    def __init__(self, on_round: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_round = on_round
        #: Connections with frames to send at the end of the iteration.
        self.written: list[FastConnection] = []

    def process_timeouts(self) -> None:
        """Finish an iteration of the event loop.

        The poller calls this method after it has called all ready handlers.
        """
        super().process_timeouts()
        written, self.written = self.written, []
        for connection in written:
            connection.flush()
        self._on_round()


class FastChannel(Channel):  # type: ignore[misc]
    """A channel that uses ``runner.amqp.wire`` for published messages, acks, deliveries and confirms."""

    #: The callback that was passed to ``confirm_delivery``, which gets each confirm.
    on_confirm: Callable[[Any], object] | None = None

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Any = None, mandatory: bool = False
    ) -> None:
        """Publish a message, like the pika method of the same name.

        All frames of one event-loop iteration are sent together.
        """
        if isinstance(properties, Properties) and len(body) <= self.connection._body_max_length:
            self._raise_if_not_open()
            encoded = properties.encoded
            self.connection.write(
                write_publish(self.channel_number, exchange, routing_key, encoded, body, mandatory=mandatory)
            )
        else:
            super().basic_publish(exchange, routing_key, body, properties, mandatory)

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Acknowledge deliveries, like the pika method of the same name."""
        self._raise_if_not_open()
        self.connection.write(write_ack(self.channel_number, delivery_tag, multiple=multiple))

    def confirm_delivery(
        self, ack_nack_callback: Callable[[Any], object], callback: Callable[[Any], object] | None = None
    ) -> None:
        """Enable publisher confirms, like the pika method of the same name."""
        super().confirm_delivery(ack_nack_callback, callback)
        self.on_confirm = ack_nack_callback

    def deliver(self, event: BasicDeliver) -> None:
        """Pass a delivery to its consumer."""
        receive = self._consumers.get(event.consumer_tag)
        if receive is None or event.consumer_tag in self._cancelled:
            # pika's own method rejects deliveries to a cancelled consumer.
            header = frame.Header(event.channel, len(event.body), event.properties)
            self._on_deliver(frame.Method(event.channel, event), header, event.body)
        else:
            receive(self, event, event.properties, event.body)


class FastConnection(pika.SelectConnection):  # type: ignore[misc]
    """A connection that reads and writes many messages with one call. The connection requires a ``PikaLoop``."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._outgoing: list[bytes] = []
        self._reader = FrameReader()
        super().__init__(*arguments, **named)

    def write(self, encoded: bytes) -> None:
        """Queue frames, which are sent in order by the end of the event-loop iteration."""
        if not self._outgoing:
            self.ioloop.written.append(self)
        self._outgoing.append(encoded)

    def flush(self) -> None:
        """Send all queued frames with as few calls as possible."""
        outgoing, self._outgoing = b"".join(self._outgoing), []
        for begin in range(0, len(outgoing), SEND_SIZE):
            self._send(outgoing[begin : begin + SEND_SIZE])

    def _send(self, encoded: bytes) -> None:
        transport = self._transport
        if transport is None:
            return  # the connection is lost, and all callers get an error
        self.bytes_sent += len(encoded)
        sent = 0
        is_direct = self.params.ssl_options is None and transport._state == transport._STATE_ACTIVE
        if is_direct and not transport.get_write_buffer_size():
            # Send immediately instead of waiting one iteration for the socket to become writable. If this attempt
            # fails, pika's own attempt fails in the same way, and pika handles the error.
            with contextlib.suppress(OSError):
                sent = transport._sock.send(encoded)
        if sent < len(encoded):
            self._adapter_emit_data(encoded[sent:])

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        self.flush()  # frames that were written earlier are sent first
        super()._output_marshaled_frames(marshaled_frames)

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], object] | None) -> FastChannel:
        return FastChannel(self, channel_number, on_open_callback)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ_SIZE
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        self.bytes_received += len(data_in)  # pika's heartbeat check reads this counter
        for event in self._reader.receive(data_in):
            if isinstance(event, bytes):
                self._process_frame(frame.decode_frame(event)[1])
            elif (channel := self._channels.get(event.channel)) is None:
                continue  # the channel has been closed, and pika also ignores the frames of a closed channel
            elif isinstance(event, BasicDeliver):
                channel.deliver(event)
            else:
                confirm = frame.Method(event.channel, pika.spec.Basic.Ack(event.delivery_tag, event.multiple))
                if channel.on_confirm is not None:
                    channel.on_confirm(confirm)
                else:
                    self._process_frame(confirm)
