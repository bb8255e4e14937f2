"""A connection with one channel that is opened again whenever it is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pika
from pika import exceptions
from pika.channel import Channel

from runner.amqp import field
from runner.amqp.close import REPLY_SUCCESS, Close, Verdict, close_of, reason_at
from runner.amqp.io_thread import IoThread
from runner.errors import BrokerAway, BrokerRefused

#: Seconds; the broker and we each take the other for dead after two missed ones (AMQP 0-9-1, heartbeats).
HEARTBEAT = 10
#: Seconds to open a connection before it counts as failed.
OPEN_TIMEOUT = 5
#: Seconds before the first attempt to reconnect, doubled for each further one up to the second number.
RECONNECT_DELAY = (0.1, 5.0)
#: Seconds that a channel must stay open to count as good; lost sooner, the delay before the next grows.
STABLE_AFTER = 10.0
#: How many may be lost sooner in a row.
MOST_LOSSES = 8

log = logging.getLogger("runner.amqp")
field.install()
# What pika would log is said by the link that it happened to, once and in our words.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def parameters_of(url: str, name: str, timeout: float = OPEN_TIMEOUT) -> pika.URLParameters:
    """Connection parameters for an address; ``name`` is what RabbitMQ's management UI shows for the connection.

    ``timeout`` is in seconds, for TCP, TLS and the AMQP handshake together.
    """
    parameters = pika.URLParameters(url)
    if not urlsplit(url).path:
        # pika takes a missing path for a vhost with an empty name; people mean the default one.
        parameters.virtual_host = "/"
    if "heartbeat" not in urlsplit(url).query:
        parameters.heartbeat = HEARTBEAT
    parameters.socket_timeout, parameters.stack_timeout = OPEN_TIMEOUT, timeout
    parameters.client_properties = {"connection_name": name}
    return parameters


class Link:
    """Keeps one connection with one channel open; everything but the properties runs on the I/O thread.

    ``on_open`` gets each new channel. ``on_lost`` gets the reason when a channel is gone, and its close.
    """

    def __init__(
        self,
        io: IoThread,
        urls: Sequence[str],
        name: str,
        on_open: Callable[[Channel], None],
        on_lost: Callable[[str, Close], None],
    ) -> None:
        self._io = io
        # Shuffled, so that not every client of a cluster goes to its first node.
        self._urls = io.random.sample(list(urls), len(urls))
        self._name = name
        self._on_open, self._on_lost = on_open, on_lost
        self._connection: Any = None
        #: The connection that ``drop`` has closed. pika reports it as open until its socket is closed.
        self._dropped: Any = None
        self._attempt = 0
        self._losses = 0
        self._opened_at: float | None = None
        self._closing = False
        #: The close that ``problem`` describes.
        self.close_reason = Close(0, "not connected yet", Verdict.PASSES)
        self._on_closed: Callable[[], None] | None = None
        #: Why there is no channel now, or None while there is one.
        self.problem: str | None = "not connected yet"
        io.add(self)

    def start(self) -> None:
        """Begin to connect; may be called from any thread."""
        self._io.call(self._connect)

    def close(self, on_closed: Callable[[], None]) -> None:
        """Close for good, then call ``on_closed``."""
        self._closing, self._on_closed = True, on_closed
        connection = self._connection
        if connection is None or connection.is_closed:
            on_closed()
        elif connection.is_open:
            connection.close()
        else:
            # pika 1.4.4 ends its loop with an AssertionError if a connection is closed during the handshake.
            self.drop("closed")

    def drop(self, reason: str) -> None:
        """Lose the connection as by a broken network: its socket is closed, and the broker is told nothing."""
        connection = self._connection
        if connection in (None, self._dropped):
            return
        if not (connection.is_closed or connection.is_closing):
            self._dropped = connection
            # What pika does where heartbeats are missed; nothing public closes a connection without AMQP's goodbye.
            connection._terminate_stream(exceptions.StreamLostError(reason))

    def reopen(self, reason: str) -> None:
        """Give the connection up for a new one, as when the broker had closed it; ``reason`` is what it does wrong."""
        if not self._closing and not self._connection.is_closing and not self._connection.is_closed:
            self._tell(Close(0, reason, Verdict.PASSES))
            self._opened_at = None  # our own will, which says nothing of the broker's channels
            self._connection.close()

    def flush(self) -> None:
        """Send what was written in this round."""
        if self._connection is not None:
            self._connection.flush()

    def error(self) -> BrokerAway | BrokerRefused:
        """Return the error for a caller that waits for a channel."""
        kind = BrokerRefused if self.close_reason.verdict is Verdict.PERMANENT else BrokerAway
        return kind(self.problem or "not connected")

    @property
    def connection(self) -> Any:
        """Pika's connection of the moment."""
        return self._connection

    def _connect(self) -> None:
        if self._closing:
            return
        self._url = url = self._urls[self._attempt % len(self._urls)]
        if self._io.cut is not None:
            self._lost(Close(0, self._io.cut, Verdict.PASSES))
            return
        self._connection = self._io.connect(
            parameters_of(url, self._name),
            on_open_callback=self._connected,
            on_open_error_callback=lambda _, error: self._lost(close_of(error)),
            on_close_callback=lambda _, error: self._lost(close_of(error)),
        )

    def _connected(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    @property
    def is_hopeless(self) -> bool:
        """Whether so many channels were lost soon after they were opened that another process should try."""
        return self._losses >= MOST_LOSSES

    def _opened(self, channel: Channel) -> None:
        self._opened_at = self._io.clock()
        self.problem = None
        channel.add_on_close_callback(self._channel_closed)
        self._on_open(channel)

    def _channel_closed(self, channel: Channel, error: Exception) -> None:
        if self._closing or channel.connection.is_closing or channel.connection.is_closed:
            return
        # A channel that the broker closed is not reopened alone: one way to recover is easier to get right.
        self._tell(close_of(error))
        channel.connection.close()

    def _tell(self, close: Close) -> None:
        is_first, self.close_reason = self.problem is None, close
        self.problem = reason_at(close, self._url)
        if is_first:
            self._on_lost(self.problem, close)

    def _lost(self, close: Close) -> None:
        if self._closing:
            self.problem = "closed"
            if self._on_closed is not None:
                self._on_closed()
            return
        # Code 200 is our own close after a channel's error, which is more informative.
        if self.problem is None or close.code != REPLY_SUCCESS:
            self._tell(close)
        if self._opened_at is not None:
            is_good = self._io.clock() - self._opened_at >= STABLE_AFTER
            self._attempt = 0 if is_good else self._attempt
            self._losses = 0 if is_good else self._losses + 1
            self._opened_at = None
        first, longest = RECONNECT_DELAY
        delay = min(first * 2 ** min(self._attempt, 10), longest) * self._io.random.uniform(0.5, 1.0)
        self._attempt += 1
        self._io.loop.call_later(delay, self._connect)
