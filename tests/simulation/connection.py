"""Pika's side of a connection, over two wires."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pika

from tests.simulation.broker import Broker
from tests.simulation.channel import Channel
from tests.simulation.wire import Wire

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Connection:
    """The replacement of ``pika.SelectConnection``."""

    def __init__(
        self,
        process: Process,
        broker: Broker,
        on_open: Callable[[Any], None],
        on_open_error: Callable[[Any, BaseException], None],
        on_close: Callable[[Any, BaseException], None],
    ) -> None:
        self.process, self._broker = process, broker
        self._on_open, self._on_open_error, self._on_close = on_open, on_open_error, on_close
        self.is_open, self.is_closed, self.is_closing = False, False, False
        self._up, self._down = Wire(broker), Wire(broker)
        self._is_lost = False
        self._on_blocked: Callable[[Any, Any], None] = lambda *_: None
        self._on_unblocked: Callable[[Any, Any], None] = lambda *_: None
        self.the_channel: Channel | None = None
        process.connections.append(self)
        broker.clock.after(0.005, self._opened)

    def _opened(self) -> None:
        if not self.process.alive or self.is_closed:
            return
        if self._broker.is_down:
            self._not_opened(pika.exceptions.AMQPConnectionError("connection refused"))
        else:
            self.is_open = True
            self._on_open(self)

    def _not_opened(self, error: BaseException) -> None:
        if not self.process.alive:
            return
        self.is_closed = True
        self.process.connections.remove(self)
        self._on_open_error(self, error)

    def _terminate_stream(self, error: BaseException) -> None:
        """End the connection without closing frames, as in pika."""
        if self.is_open:
            self.lose(str(error))
        else:
            self._broker.clock.after(0.0, lambda: self._not_opened(error))

    def up(self, frame: Callable[[], None]) -> None:
        """Send a frame to the broker."""
        if self.process.alive:
            self._up.send(frame)

    def down(self, frame: Callable[[], None]) -> None:
        """Send a frame from the broker."""
        self._down.send(partial(self._receive, frame))

    def _receive(self, frame: Callable[[], None]) -> None:
        if not self.is_closed:
            self.process.io.round(frame)

    def channel(self, on_open_callback: Callable[[Any], None]) -> None:
        """Open the only channel."""
        self.the_channel = channel = Channel(self, self._broker)
        self.up(lambda: self.down(lambda: on_open_callback(channel)))

    def add_on_connection_blocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        """Set the callback for a blocked connection, as in pika."""
        self._on_blocked = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        """Set the callback for an unblocked connection, as in pika."""
        self._on_unblocked = callback

    def block(self, seconds: float) -> None:
        """Make the broker announce that it blocks the connection, and stop reading for ``seconds``."""
        self._up.held_until = self._broker.clock.now + seconds
        reason = SimpleNamespace(method=SimpleNamespace(reason="low on memory"))
        self.down(lambda: self._on_blocked(self, reason))
        self._broker.clock.after(seconds, lambda: self.down(lambda: self._on_unblocked(self, None)))

    def close(self) -> None:
        """Close the connection with the closing frames of AMQP."""
        self.is_open, self.is_closing = False, True
        self.up(self._close)

    def _close(self) -> None:
        self._end_session()
        self.down(self._closed)

    def _closed(self) -> None:
        self._gone(pika.exceptions.ConnectionClosedByClient(200, "Normal shutdown"))

    def lose(self, reason: str, *, is_seen: bool = True) -> None:
        """Cut the connection.

        Each side notices the cut later, except a process that has exited (``is_seen`` is False).
        """
        if self._is_lost or self.is_closed:
            return
        self._is_lost = True
        random, clock = self._broker.random, self._broker.clock
        self._up.held_until = 0.0
        self._up.cut()
        self._down.cut()
        patience = random.choice((0.0, 0.0, 0.001, 0.05, 12.0)) if is_seen else 0.001
        clock.after(patience, self._end_session)
        if is_seen:
            error = pika.exceptions.StreamLostError(reason)
            clock.after(random.choice((0.0, 0.0, 0.001, 0.05, 12.0)), lambda: self._gone(error))

    def _end_session(self) -> None:
        if self.the_channel is not None:
            self.the_channel.session.end()

    def _gone(self, error: BaseException) -> None:
        if not self.process.alive or self.is_closed:
            return
        self.is_open, self.is_closed, self.is_closing = False, True, False
        self.process.connections.remove(self)
        self.process.io.round(lambda: self._on_close(self, error))
