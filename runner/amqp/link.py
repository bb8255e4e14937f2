"""A link, which reopens a connection and its channel after each loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pika
from pika.channel import Channel

from runner.amqp.io_thread import IoThread
from runner.amqp.pika_adapter import terminate
from runner.amqp.reply_code import REPLY_SUCCESS, Close, CloseKind, close_of, reason_at
from runner.backoff import Backoff
from runner.errors import BrokerRefused, BrokerUnreachable

#: The heartbeat interval in seconds. A peer that misses two heartbeats is considered dead (AMQP 0-9-1, heartbeats).
HEARTBEAT = 10
#: The time limit in seconds for opening a connection, including TCP, TLS and the AMQP handshake.
OPEN_TIMEOUT = 5
#: The delays in seconds before attempts to reconnect.
RECONNECT_DELAYS = Backoff(0.1, max=5.0)
#: The time in seconds for which a channel must remain open. If a channel is lost sooner, the next delay is longer.
STABLE_AFTER = 10.0
#: The number of consecutive early losses after which a link is considered hopeless.
MOST_LOSSES = 8

log = logging.getLogger("runner.amqp")


def parameters_of(url: str, name: str, timeout: float = OPEN_TIMEOUT) -> pika.URLParameters:
    """Return pika's connection parameters. RabbitMQ's management UI shows the connection under ``name``.

    ``timeout`` is the time limit in seconds for TCP, TLS and the AMQP handshake together.
    """
    parameters = pika.URLParameters(url)
    if not urlsplit(url).path:
        # pika interprets a missing path as a vhost with an empty name, but users mean the default vhost.
        parameters.virtual_host = "/"
    if "heartbeat" not in urlsplit(url).query:
        parameters.heartbeat = HEARTBEAT
    parameters.socket_timeout, parameters.stack_timeout = OPEN_TIMEOUT, timeout
    parameters.client_properties = {"connection_name": name}
    return parameters


class Link:
    """A connection with one channel, both of which are reopened after a loss.

    Any thread may call ``start`` and read the properties. ``on_open`` gets each new channel. When a channel is lost,
    ``on_lost`` gets the reason and the Close.
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
        # The order is random, so that the clients of a cluster do not all connect to the first node in the list.
        self._urls = io.random.sample(list(urls), len(urls))
        self._name = name
        self._on_open, self._on_lost = on_open, on_lost
        self._connection: Any = None
        #: The connection that ``drop`` has closed. pika reports this connection as open until its socket is closed.
        self._dropped: Any = None
        self._attempt = 0
        self._losses = 0
        self._opened_at: float | None = None
        self._closing = False
        #: The Close whose reason is in ``problem``.
        self.close_reason = Close(0, "not connected yet", CloseKind.PASSES)
        self._on_closed: Callable[[], None] | None = None
        #: The reason that no channel is open, or None if a channel is open.
        self.problem: str | None = "not connected yet"
        io.add(self)

    def start(self) -> None:
        """Start connecting to the broker. Any thread may call this method."""
        self._io.call(self._connect)

    def close(self, on_closed: Callable[[], None]) -> None:
        """Close the link permanently, then call ``on_closed``."""
        self._closing, self._on_closed = True, on_closed
        connection = self._connection
        if connection is None or connection.is_closed:
            on_closed()
        elif connection.is_open:
            connection.close()
        else:
            self.drop("closed")

    def drop(self, reason: str) -> None:
        """Close the socket without ``connection.close``, as if the network had failed."""
        connection = self._connection
        if connection in (None, self._dropped):
            return
        if not (connection.is_closed or connection.is_closing):
            self._dropped = connection
            terminate(connection, reason)

    def reopen(self, reason: str) -> None:
        """Replace the connection with a new connection. ``reason`` is the problem with the current connection."""
        if not self._closing and not self._connection.is_closing and not self._connection.is_closed:
            self._report(Close(0, reason, CloseKind.PASSES))
            self._opened_at = None  # a close by this class does not count as a loss
            self._connection.close()

    def error(self) -> BrokerUnreachable | BrokerRefused:
        """Return the error for a caller that is waiting for a channel."""
        kind = BrokerRefused if self.close_reason.verdict is CloseKind.PERMANENT else BrokerUnreachable
        return kind(self.problem or "not connected")

    @property
    def connection(self) -> Any:
        """The current pika connection."""
        return self._connection

    def _connect(self) -> None:
        if self._closing:
            return
        self._url = url = self._urls[self._attempt % len(self._urls)]
        if self._io.cut is not None:
            self._lost(Close(0, self._io.cut, CloseKind.PASSES))
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
        """True if the process should be restarted, because many consecutive channels were lost soon after opening."""
        return self._losses >= MOST_LOSSES

    def _opened(self, channel: Channel) -> None:
        self._opened_at = self._io.clock()
        self.problem = None
        channel.add_on_close_callback(self._channel_closed)
        self._on_open(channel)

    def _channel_closed(self, channel: Channel, error: Exception) -> None:
        if self._closing or channel.connection.is_closing or channel.connection.is_closed:
            return
        # The whole connection is closed and reopened, so that there is only one recovery path.
        self._report(close_of(error))
        channel.connection.close()

    def _report(self, close: Close) -> None:
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
        # Code 200 means that this class has closed the connection after a channel error. The channel error is more
        # informative.
        if self.problem is None or close.code != REPLY_SUCCESS:
            self._report(close)
        if self._opened_at is not None:
            is_good = self._io.clock() - self._opened_at >= STABLE_AFTER
            self._attempt = 0 if is_good else self._attempt
            self._losses = 0 if is_good else self._losses + 1
            self._opened_at = None
        self._attempt += 1
        self._io.loop.call_later(RECONNECT_DELAYS.delay(self._attempt, self._io.random.random()), self._connect)
