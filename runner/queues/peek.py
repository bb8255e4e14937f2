"""The reading of a queue's first messages, which are then requeued in order."""

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

#: The headers that count deliveries of quorum queues: failed deliveries, and since RabbitMQ 4.3 all deliveries.
_COUNTS = (DELIVERY_COUNT, ACQUIRED_COUNT)
#: The number of messages to request beyond N from a queue with a single active consumer.
SPARE = 1000
#: Above this number of consumers, each further consumer gets as many messages as all earlier consumers together.
MANY_CONSUMERS = 22


#: The method, properties and body of a delivery.
_Delivery = tuple[Any, pika.BasicProperties, bytes]


class Peek(Reader):
    """A reader that receives messages from the head of a queue, and requeues them.

    A quorum queue delivers requeued messages before all others, in the order in which they were requeued. To keep this
    order, the reader receives all requeued messages, even if it shows fewer.

    Before RabbitMQ 4.3, a quorum queue counts each requeueing as a failed delivery. It would dead-letter or drop a
    message at the delivery limit. So the reader does not requeue such a message. It publishes a copy to the end of the
    queue, and acknowledges the original after the confirm.
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
        self._why = "the queue refuses a copy"
        #: The messages to show, in order.
        self.messages: list[DeadLetter] = []
        #: The number of messages that were copied to the end of the queue.
        self.rescued: list[DeadLetter] = []

    @property
    def is_counted(self) -> bool:
        """True if the queue counts a read as a failed delivery."""
        return self._is_quorum and not self._has_nack

    def _opened(self, channel: Channel) -> None:
        version = parsed(str((channel.connection.server_properties or {}).get("version", "")))
        # Without a limit, a nack could put a message at the end of the queue (RabbitMQ: "Quorum Queues").
        self._has_nack = NACK_IS_NO_FAILURE.holds(version) and self._delivery_limit is not None
        super()._opened(channel)

    def _on_delivery(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        # A message that arrives while the consumers are cancelled is requeued too.
        self._deliveries.append((method, properties, body))
        super()._on_delivery(channel, method, properties, body)

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        if len(self.messages) < self._number:
            self.messages.append(message)

    def _refill(self) -> None:
        # The broker itself requeues a message that it delivers during a cancellation, behind the other messages.
        if self._is_over or not self._is_quorum or self.seen < self._credit:
            return
        if not self._deliveries[-1][0].redelivered or self._is_single:
            self._on_end()
        else:
            # The steps are small, so that few messages beyond the requeued ones are received. The number of consumers
            # is limited, because a queue does not keep the order of messages from more than 32 consumers.
            self._step = max(1, self.seen // 3) if len(self._consumers) < MANY_CONSUMERS else self.seen
            self._subscribe()

    def _give_back(self) -> None:
        spent = [one for one in self._deliveries if self.is_counted and self._is_spent(*one[:2])]
        if spent:
            self._unconfirmed.open(self._channel, lambda: self._copy(spent))
            return
        if self._is_quorum and self._has_nack:
            # One nack for each consumer, in the order of the consumers, keeps the order of the messages.
            last = {method.consumer_tag: method.delivery_tag for method, *_ in self._deliveries}
            for tag in last.values():
                self._channel.basic_nack(tag, multiple=True, requeue=True)
        # When the channel closes, the broker requeues the unacked messages.
        self._session.finish()

    def _is_spent(self, method: Any, properties: pika.BasicProperties) -> bool:
        """Return True if the broker would dead-letter or drop the message instead of requeueing it."""
        if self._delivery_limit is None:
            return False
        # The header may come from the publisher. The queue adds the header only to a redelivered message.
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
        text = f"message {ids}: at its delivery limit, and {self._why}; the broker dead-letters or drops it"
        if self.rescued:
            text += f"; at the end of the queue now: {', '.join(one.id for one in self.rescued)}"
        self._session.fail(PublishRefused(f"queue {self._queue!r}: {text}"))
