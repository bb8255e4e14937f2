"""Look at the first messages of a queue, and put them back in their places."""

from __future__ import annotations

from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.desk import Reader
from runner.amqp.drain import moved_properties
from runner.amqp.properties import letter_of
from runner.config.version import NACK_IS_NO_FAILURE, QUORUM, STREAM, parsed
from runner.desk.letter import Letter
from runner.errors import PublishRefused
from runner.headers import count_of

#: The header in which a quorum queue counts failed deliveries, and one in which RabbitMQ 4.3 counts all.
_COUNT, _ACQUIRED = "x-delivery-count", "x-acquired-count"


class Peek(Reader):
    """Takes at most ``number`` messages from the head of a queue, and gives them back.

    A quorum queue of RabbitMQ before 4.3 counts that as a failed delivery. It would dead-letter or drop a message that
    has reached its delivery limit. So such a message is not given back: the broker confirms a copy of it at the end of
    its queue first.
    """

    def __init__(self, url: str, queue: str, number: int, kind: str, limit: int | None) -> None:
        """``kind`` is the type of the queue; ``limit`` is its delivery limit, None for none."""
        super().__init__(url, queue, credit=number, limit=number)
        self._kind, self._delivery_limit = kind, limit
        if kind == STREAM:
            self._arguments = {"x-stream-offset": "first"}
        self._deliveries: list[tuple[Any, pika.BasicProperties, bytes]] = []
        #: Deliveries whose copies are not confirmed yet, in the order of the publishes.
        self._unconfirmed: dict[int, Any] = {}
        #: The messages, in order, and those of them that are at the end of the queue now.
        self.letters: list[Letter] = []
        self.rescued: list[Letter] = []
        #: True if the queue counts a look as a failed delivery.
        self.is_counted = False

    def _opened(self, channel: Channel) -> None:
        version = parsed(str((channel.connection.server_properties or {}).get("version", "")))
        self.is_counted = self._kind == QUORUM and not NACK_IS_NO_FAILURE.holds(version)
        super()._opened(channel)

    def _on_delivery(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if not (self._is_read or self._is_over):
            self._deliveries.append((method, properties, body))
        super()._on_delivery(channel, method, properties, body)

    def _on_letter(self, tag: int, letter: Letter) -> None:
        self.letters.append(letter)

    def _refill(self) -> None:
        """Take no more than was asked for."""

    def _close(self) -> None:
        if self._is_over:
            return
        self._is_closing = True
        if not self._consumers:
            self._session.finish()
            return
        # While there is a consumer, the queue would deliver to it again what it gives back.
        self._channel.basic_cancel(self._consumers[0], callback=lambda _: self._give_back())

    def _give_back(self) -> None:
        spent = [one for one in self._deliveries if self.is_counted and self._is_spent(*one[:2])]
        if spent:
            self._channel.add_on_return_callback(lambda *_: self._refused())
            self._channel.confirm_delivery(self._on_confirm, callback=lambda _: self._copy(spent))
            return
        if self._deliveries and not self.is_counted and self._kind == QUORUM:
            self._channel.basic_nack(self._deliveries[-1][0].delivery_tag, multiple=True, requeue=True)
        # The queue puts back in their places what is unacked when the channel ends.
        self._session.finish()

    def _is_spent(self, method: Any, properties: pika.BasicProperties) -> bool:
        """Return True for a message that the broker would not keep if it was given back."""
        if self._delivery_limit is None:
            return False
        # A sender may have written the header; that of the queue is there only in a redelivered message.
        count = count_of((properties.headers or {}).get(_COUNT)) if method.redelivered else 0
        return count >= self._delivery_limit

    def _copy(self, spent: list[tuple[Any, pika.BasicProperties, bytes]]) -> None:
        for number, (method, properties, body) in enumerate(spent, 1):
            properties.headers = {
                name: value for name, value in (properties.headers or {}).items() if name not in (_COUNT, _ACQUIRED)
            }
            self._unconfirmed[number] = (method, properties, body)
            copy = moved_properties(method, properties, is_aside=False)
            self._channel.basic_publish("", self._queue, body, copy, mandatory=True)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._refused()
            return
        numbers = [one for one in self._unconfirmed if method.multiple and one <= method.delivery_tag]
        for number in numbers or [method.delivery_tag]:
            delivery = self._unconfirmed.pop(number)
            self._channel.basic_ack(delivery[0].delivery_tag)
            self.rescued.append(letter_of(self._queue, *delivery))
        if not self._unconfirmed:
            self._session.finish()

    def _refused(self) -> None:
        ids = ", ".join(letter_of(self._queue, *one).id for one in self._unconfirmed.values())
        text = (
            f"message {ids}: its deliveries are used up, and its queue takes no copy of it: the broker dead-letters it"
        )
        self._session.fail(PublishRefused(f"queue {self._queue!r}: {text}"))
