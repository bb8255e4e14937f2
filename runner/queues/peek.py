"""A reader that shows the first messages of a queue, and requeues them in order."""

from __future__ import annotations

from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.confirms_and_returns import ConfirmWindow
from runner.amqp.properties import moved_properties
from runner.config.version import NACK_IS_NO_FAILURE, QUORUM, parsed
from runner.deadletters.browser import Reader
from runner.deadletters.dead_letter import DeadLetter, dead_letter_of
from runner.errors import BrokerError, PublishRefused
from runner.headers import ACQUIRED_COUNT, DELIVERY_COUNT, count_of

#: The headers in which quorum queues count failed deliveries and, since RabbitMQ 4.3, all deliveries.
_COUNTS = (DELIVERY_COUNT, ACQUIRED_COUNT)
#: The number of extra messages to request from a queue with a single active consumer.
SPARE = 1000
#: Above this number of consumers, each additional consumer gets as many messages as all earlier consumers together.
MANY_CONSUMERS = 22


#: The method, properties and body of a delivery.
_Delivery = tuple[Any, pika.BasicProperties, bytes]


class Peek(Reader):
    """A reader that receives messages from the head of a queue, and requeues them.

    A quorum queue delivers requeued messages before all other messages, in the order in which they were requeued. To
    preserve the order, the reader receives all requeued messages, even if it shows only some of them.

    Before RabbitMQ 4.3, a quorum queue counts each requeueing as a failed delivery. The queue would dead-letter or drop
    a requeued message at the delivery limit. So the reader does not requeue a message that has reached the limit.
    Instead, the reader publishes a copy to the end of the queue, and acknowledges the original after the confirm.
    """

    def __init__(
        self, url: str, queue: str, number: int, kind: str | None, limit: int | None, *, is_single: bool = False
    ) -> None:
        """``kind`` is the queue type, or None if unknown. ``limit`` is the delivery limit, or None for no limit.

        ``is_single`` is True if the queue has a single active consumer.
        """
        self._is_quorum = kind in (QUORUM, None)
        credit = number + SPARE if self._is_quorum and is_single else number
        super().__init__(url, queue, credit=credit, limit=None if self._is_quorum else number)
        self._number, self._delivery_limit, self._is_single = number, limit, is_single
        self._has_nack = False
        self._deliveries: list[_Delivery] = []
        #: Deliveries whose copies are not confirmed yet.
        self._unconfirmed: ConfirmWindow[_Delivery] = ConfirmWindow(self._on_outcome, self._on_round)
        #: Deliveries whose copies the queue has refused.
        self._refused: list[_Delivery] = []
        self._why = "the queue refused a copy"
        #: The messages to show, in order.
        self.messages: list[DeadLetter] = []
        #: The messages that were copied to the end of the queue.
        self.rescued: list[DeadLetter] = []

    @property
    def is_counted(self) -> bool:
        """True if the queue counts a read as a failed delivery."""
        return self._is_quorum and not self._has_nack

    def _opened(self, channel: Channel) -> None:
        version = parsed(str((channel.connection.server_properties or {}).get("version", "")))
        # If there is no delivery limit, a nack could move a message to the end of the queue (RabbitMQ: "Quorum
        # Queues").
        self._has_nack = NACK_IS_NO_FAILURE.holds(version) and self._delivery_limit is not None
        super()._opened(channel)

    def _on_delivery(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        # A message that arrives while the consumers are being cancelled must be requeued too.
        self._deliveries.append((method, properties, body))
        super()._on_delivery(channel, method, properties, body)

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        if len(self.messages) < self._number:
            self.messages.append(message)

    def _refill(self) -> None:
        # If the broker delivers a message during a cancellation, the broker requeues it behind the other messages.
        if self._is_over or not self._is_quorum or self.seen < self._credit:
            return
        if not self._deliveries[-1][0].redelivered or self._is_single:
            self._on_end()
        else:
            # Small steps limit the number of messages received in addition to the requeued messages. The number of
            # consumers is limited, because a queue does not preserve the order of messages from more than 32 consumers.
            self._step = max(1, self.seen // 3) if len(self._consumers) < MANY_CONSUMERS else self.seen
            self._subscribe()

    def _give_back(self) -> None:
        spent = [one for one in self._deliveries if self.is_counted and self._is_spent(*one[:2])]
        if spent:
            self._unconfirmed.open(self._channel, lambda: self._copy(spent))
            return
        if self._is_quorum and self._has_nack:
            # One nack per consumer, in the order of the consumers, preserves the order of the messages.
            last = {method.consumer_tag: method.delivery_tag for method, *_ in self._deliveries}
            for tag in last.values():
                self._channel.basic_nack(tag, multiple=True, requeue=True)
        # When the channel closes, the broker requeues the unacked messages.
        self._session.finish()

    def _is_spent(self, method: Any, properties: pika.BasicProperties) -> bool:
        """Return True if the broker would dead-letter or drop the message instead of requeueing it."""
        if self._delivery_limit is None:
            return False
        # The publisher may have set the header. The queue adds the header only to a redelivered message.
        count = count_of((properties.headers or {}).get(DELIVERY_COUNT)) if method.redelivered else 0
        return count >= self._delivery_limit

    def _copy(self, spent: list[_Delivery]) -> None:
        for method, properties, body in spent:
            properties.headers = {
                name: value for name, value in (properties.headers or {}).items() if name not in _COUNTS
            }
            try:
                copy = moved_properties(method, properties, is_aside=False)
            except ValueError as error:
                self._why = str(error)
                self._refused.append((method, properties, body))
                continue
            self._unconfirmed.publish((method, properties, body), ("", "", self._queue), body, copy)
        self._on_round()

    def _on_outcome(self, delivery: _Delivery, error: BrokerError | None) -> None:
        if error is not None:
            self._refused.append(delivery)
        else:
            self._channel.basic_ack(delivery[0].delivery_tag)
            self.rescued.append(dead_letter_of(self._queue, *delivery))

    def _on_round(self) -> None:
        if self._unconfirmed or self._session.is_finished:
            return
        if self._refused:
            self._give_up()
        else:
            self._session.finish()

    def _give_up(self) -> None:
        ids = ", ".join(dead_letter_of(self._queue, *one).id for one in self._refused)
        text = f"message {ids}: at the delivery limit, and {self._why}; the broker will dead-letter or drop the message"
        if self.rescued:
            text += f"; moved to the end of the queue: {', '.join(one.id for one in self.rescued)}"
        self._session.fail(PublishRefused(f"queue {self._queue!r}: {text}"))
