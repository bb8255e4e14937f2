"""pika's side of a connection and its channel, over a wire that takes its time and may be cut at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pika

from tests.simulation.broker import Broker, Stored
from tests.simulation.session import Session

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Wire:
    """One direction of a connection: frames arrive late and in order."""

    def __init__(self, broker: Broker) -> None:
        self._clock, self._random = broker.clock, broker.random
        self._frames: deque[Callable[[], None]] = deque()
        self._last = 0.0
        self._is_cut = False
        #: Until when the other side reads nothing.
        self.held_until = 0.0

    def send(self, frame: Callable[[], None]) -> None:
        if self._is_cut:
            return
        self._frames.append(frame)
        draw = self._random.random()
        delay = 0.0002 if draw < 0.5 else 0.003 if draw < 0.97 else 0.3
        self._last = max(self._last, self._clock.now + delay)
        self._clock.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._frames and self._clock.now < self.held_until:
            self._clock.at(self.held_until, self._arrive)
        elif self._frames:
            self._frames.popleft()()

    def cut(self) -> None:
        """Nothing more is sent; of what is on its way some may still arrive."""
        self._is_cut = True
        for _ in range(self._random.randint(0, len(self._frames))):
            self._frames.popleft()()
        self._frames.clear()


class Connection:
    """Stands for ``pika.SelectConnection``."""

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
        self.is_closed, self.is_closing = False, False
        self._up, self._down = Wire(broker), Wire(broker)
        self._is_lost = False
        self._on_blocked: Callable[[Any, Any], None] = lambda *_: None
        self._on_unblocked: Callable[[Any, Any], None] = lambda *_: None
        self.the_channel: Channel | None = None
        process.connections.append(self)
        broker.clock.after(0.005, self._opened)

    def _opened(self) -> None:
        if not self.process.alive:
            return
        if self._broker.is_down:
            self.is_closed = True
            self.process.connections.remove(self)
            self._on_open_error(self, pika.exceptions.AMQPConnectionError("connection refused"))
        else:
            self._on_open(self)

    def up(self, frame: Callable[[], None]) -> None:
        """To the broker."""
        if self.process.alive:
            self._up.send(frame)

    def down(self, frame: Callable[[], None]) -> None:
        """From the broker."""
        self._down.send(partial(self._receive, frame))

    def _receive(self, frame: Callable[[], None]) -> None:
        if self.process.alive and not self.is_closed:
            frame()

    def channel(self, on_open_callback: Callable[[Any], None]) -> None:
        """Open the one channel."""
        self.the_channel = channel = Channel(self, self._broker)
        self.up(lambda: self.down(lambda: on_open_callback(channel)))

    def add_on_connection_blocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        """As pika."""
        self._on_blocked = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        """As pika."""
        self._on_unblocked = callback

    def block(self, seconds: float) -> None:
        """The broker says that it reads nothing for now, and does so."""
        self._up.held_until = self._broker.clock.now + seconds
        reason = SimpleNamespace(method=SimpleNamespace(reason="low on memory"))
        self.down(lambda: self._on_blocked(self, reason))
        self._broker.clock.after(seconds, lambda: self.down(lambda: self._on_unblocked(self, None)))

    def close(self) -> None:
        """Close in good order."""
        self.is_closing = True
        self.up(self._close)

    def _close(self) -> None:
        self._end_session()
        self.down(self._closed)

    def _closed(self) -> None:
        self._gone(pika.exceptions.ConnectionClosedByClient(200, "Normal shutdown"))

    def lose(self, reason: str, *, is_seen: bool = True) -> None:
        """Cut it; each side sees that in its own time, a process that has ended (not ``is_seen``) never."""
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
        self.is_closed, self.is_closing = True, False
        self.process.connections.remove(self)
        self._on_close(self, error)


class Channel:
    """Stands for ``pika.channel.Channel``."""

    def __init__(self, connection: Connection, broker: Broker) -> None:
        self.connection, self._broker = connection, broker
        self.session = Session(broker, connection, self)
        self._ledger = connection.process.ledger
        self._receivers: dict[str, Callable[..., None]] = {}
        #: Those whose deliveries the broker takes for answered.
        self._auto: set[str] = set()
        #: What has come and was not answered, by its tag.
        self.open: dict[int, Stored] = {}
        self._on_return: Callable[..., None] = lambda *_: None
        self._on_confirm: Callable[[Any], None] = lambda _: None
        self._published = 0
        self._unconfirmed: dict[int, tuple[str, str, pika.BasicProperties, bytes]] = {}
        self._returned: set[int] = set()

    @property
    def is_open(self) -> bool:
        """As pika."""
        return not self.connection.is_closed and not self.connection.is_closing

    @property
    def consumer_tags(self) -> list[str]:
        """As pika."""
        return list(self._receivers)

    def add_on_close_callback(self, _: object) -> None:
        """The broker of the simulation closes no channel alone: that would be a violation."""

    def add_on_cancel_callback(self, _: object) -> None:
        """Nor cancels it a consumer."""

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        """As pika."""
        self._on_return = callback

    def confirm_delivery(self, on_confirm: Callable[[Any], None], callback: Callable[[Any], None]) -> None:
        """As pika."""
        self._on_confirm = on_confirm
        self.connection.up(lambda: self.connection.down(lambda: callback(None)))

    def basic_qos(self, prefetch_count: int, callback: Callable[[Any], None]) -> None:
        """As pika."""

        def arrived() -> None:
            self.session.prefetch = prefetch_count
            self.connection.down(lambda: callback(None))

        self.connection.up(arrived)

    def basic_consume(
        self, queue: str, receiver: Callable[..., None], callback: Callable[[Any], None], auto_ack: bool = False
    ) -> None:
        """As pika."""
        tag = f"{queue}-{len(self._receivers) + 1}"
        if auto_ack:
            self._auto.add(tag)
        self._receivers[tag] = receiver
        frame = SimpleNamespace(method=SimpleNamespace(consumer_tag=tag))
        self.connection.up(lambda: self.session.subscribe(queue, tag, lambda: callback(frame), auto_ack))

    def basic_cancel(self, tag: str, callback: Callable[[Any], None]) -> None:
        """As pika."""

        def cancelled() -> None:
            self._receivers.pop(tag, None)
            callback(None)

        self.connection.up(lambda: self.session.cancel(tag, cancelled))

    def receive(self, method: Any, stored: Stored) -> None:
        """A delivery has come."""
        self.open[method.delivery_tag] = stored
        if method.consumer_tag in self._auto:
            self._ledger.acked(self.connection.process, self.open.pop(method.delivery_tag))
        if (receiver := self._receivers.get(method.consumer_tag)) is not None:
            self._ledger.delivered(self.connection.process, self, stored)
            receiver(self, method, stored.properties, stored.body)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        """As pika."""
        if tag not in self.open:
            self._broker.history.fail("delivery tags", f"ack of {tag}, which is unknown or settled")
        tags = [one for one in self.open if one <= tag] if multiple else [tag]
        if len(tags) > 1:
            self._broker.history.hit("one ack for many")
        elif not multiple:
            self._broker.history.hit("an ack beyond a gap")
        for one in tags:
            self._ledger.acked(self.connection.process, self.open.pop(one))
        self.connection.up(lambda: self.session.answer(tag, multiple=multiple, is_ack=True))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        """As pika."""
        if tag not in self.open:
            self._broker.history.fail("delivery tags", f"reject of {tag}, which is unknown or settled")
        self._ledger.rejected(self.connection.process, self.open.pop(tag), requeue=requeue)
        self.connection.up(lambda: self.session.answer(tag, multiple=False, is_ack=False))

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, mandatory: bool
    ) -> None:
        """As pika."""
        self._published += 1
        self._unconfirmed[self._published] = (exchange, routing_key, properties, body)
        self._ledger.published(self.connection.process, routing_key, properties, body)
        number = self._published

        def arrived() -> None:
            if self._broker.route(exchange, routing_key) is None:
                self._returned.add(number)
            self.session.publish(exchange, routing_key, body, properties, mandatory)

        self.connection.up(arrived)

    def take_back(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        """A return has come."""
        self._broker.history.hit("a return before its confirm")
        self._ledger.returned(self.connection.process, properties, body)
        self._on_return(self, method, properties, body)

    def confirm(self, frame: Any) -> None:
        """A confirm has come."""
        method = frame.method
        is_ack = isinstance(method, pika.spec.Basic.Ack)
        last = method.delivery_tag
        for number in [one for one in self._unconfirmed if one <= last] if method.multiple else [last]:
            _, routing_key, properties, body = self._unconfirmed.pop(number)
            if is_ack and number not in self._returned:
                self._ledger.confirmed(self.connection.process, routing_key, properties, body)
        self._on_confirm(frame)
