"""Pika's side of a channel. It reports all frames to the ledger."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pika

from tests.simulation.broker import Broker, Stored
from tests.simulation.session import Session

if TYPE_CHECKING:
    from tests.simulation.connection import Connection


class Channel:
    """The replacement of ``pika.channel.Channel``."""

    def __init__(self, connection: Connection, broker: Broker) -> None:
        self.connection, self._broker = connection, broker
        self.session = Session(broker, connection, self)
        self._ledger = connection.process.ledger
        self._receivers: dict[str, Callable[..., None]] = {}
        #: Consumer tags with automatic acknowledgement.
        self._auto: set[str] = set()
        #: Unacked deliveries by their tags.
        self.open: dict[int, Stored] = {}
        self._on_return: Callable[..., None] = lambda *_: None
        self._on_confirm: Callable[[Any], None] = lambda _: None
        self._published = 0
        self._unconfirmed: dict[int, tuple[str, str, pika.BasicProperties, bytes]] = {}
        self._returned: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Return True if the connection is open, as in pika."""
        return not self.connection.is_closed and not self.connection.is_closing

    @property
    def consumer_tags(self) -> list[str]:
        """Return the tags of the consumers, as in pika."""
        return list(self._receivers)

    def add_on_close_callback(self, _: object) -> None:
        """Do nothing: the simulated broker never closes a single channel, because that would be a violation."""

    def add_on_cancel_callback(self, _: object) -> None:
        """Do nothing: the simulated broker never cancels a consumer."""

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        """Set the callback for returned messages, as in pika."""
        self._on_return = callback

    def confirm_delivery(self, on_confirm: Callable[[Any], None], callback: Callable[[Any], None]) -> None:
        """Ask for confirms, as in pika."""
        self._on_confirm = on_confirm
        self.connection.up(lambda: self.connection.down(lambda: callback(None)))

    def basic_qos(self, prefetch_count: int, callback: Callable[[Any], None]) -> None:
        """Set the prefetch, as in pika."""

        def arrived() -> None:
            self.session.prefetch = prefetch_count
            self.connection.down(lambda: callback(None))

        self.connection.up(arrived)

    def basic_consume(
        self, queue: str, receiver: Callable[..., None], callback: Callable[[Any], None], auto_ack: bool = False
    ) -> None:
        """Start a consumer, as in pika."""
        tag = f"{queue}-{len(self._receivers) + 1}"
        if auto_ack:
            self._auto.add(tag)
        self._receivers[tag] = receiver
        frame = SimpleNamespace(method=SimpleNamespace(consumer_tag=tag))
        self.connection.up(lambda: self.session.subscribe(queue, tag, lambda: callback(frame), auto_ack))

    def basic_cancel(self, tag: str, callback: Callable[[Any], None]) -> None:
        """Cancel a consumer, as in pika."""

        def cancelled() -> None:
            self._receivers.pop(tag, None)
            callback(None)

        self.connection.up(lambda: self.session.cancel(tag, cancelled))

    def receive(self, method: Any, stored: Stored) -> None:
        """Handle a delivery."""
        self.open[method.delivery_tag] = stored
        if method.consumer_tag in self._auto:
            self._ledger.acked(self.connection.process, self.open.pop(method.delivery_tag))
        if (receiver := self._receivers.get(method.consumer_tag)) is not None:
            self._ledger.delivered(self.connection.process, self, stored)
            receiver(self, method, stored.properties, stored.body)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery, as in pika."""
        if tag not in self.open:
            self._broker.history.fail("delivery tags", f"ack of {tag}, which is unknown or already acknowledged")
        tags = [one for one in self.open if one <= tag] if multiple else [tag]
        if len(tags) > 1:
            self._broker.history.hit("one ack for several deliveries")
        elif not multiple:
            self._broker.history.hit("an ack beyond a gap")
        for one in tags:
            self._ledger.acked(self.connection.process, self.open.pop(one))
        self.connection.up(lambda: self.session.answer(tag, multiple=multiple, is_ack=True))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        """Reject a delivery, as in pika."""
        if tag not in self.open:
            self._broker.history.fail("delivery tags", f"reject of {tag}, which is unknown or already acknowledged")
        self._ledger.rejected(self.connection.process, self.open.pop(tag), requeue=requeue)
        self.connection.up(lambda: self.session.answer(tag, multiple=False, is_ack=False))

    def basic_publish(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, mandatory: bool
    ) -> None:
        """Publish a message, as in pika."""
        self._published += 1
        self._unconfirmed[self._published] = (exchange, routing_key, properties, body)
        self._ledger.published(self.connection.process, routing_key, properties, body)
        number = self._published

        def arrived() -> None:
            if self._broker.route(exchange, routing_key) is None:
                self._returned.add(number)
            self.session.publish(exchange, routing_key, body, properties, mandatory)

        self.connection.up(arrived)

    def receive_return(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        """Handle a returned message."""
        self._broker.history.hit("a return before its confirm")
        self._ledger.returned(self.connection.process, properties, body)
        self._on_return(self, method, properties, body)

    def confirm(self, frame: Any) -> None:
        """Handle a confirm."""
        method = frame.method
        is_ack = isinstance(method, pika.spec.Basic.Ack)
        last = method.delivery_tag
        for number in [one for one in self._unconfirmed if one <= last] if method.multiple else [last]:
            _, routing_key, properties, body = self._unconfirmed.pop(number)
            if is_ack and number not in self._returned:
                self._ledger.confirmed(self.connection.process, routing_key, properties, body)
        self._on_confirm(frame)
