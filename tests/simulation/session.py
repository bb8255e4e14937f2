"""The broker's side of one channel: delivery tags, unacked deliveries, and confirms in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pika

from tests.simulation.broker import Broker, Queue, Stored

if TYPE_CHECKING:
    from tests.simulation.channel import Channel
    from tests.simulation.connection import Connection

#: The reply code of a message that is routed to no queue (AMQP 0-9-1, constants).
NO_ROUTE = 312


@dataclass(eq=False)
class Subscription:
    """A consumer, with the prefetch that was set when it started (RabbitMQ: "Consumer Prefetch")."""

    session: Session
    tag: str
    queue: Queue
    prefetch: int
    auto_ack: bool = False
    unacked: int = 0

    @property
    def has_room(self) -> bool:
        return self.unacked < self.prefetch


class Session:
    """The broker's state of a channel."""

    def __init__(self, broker: Broker, connection: Connection, channel: Channel) -> None:
        self._broker, self.connection, self._channel = broker, connection, channel
        self.is_gone = False
        self.prefetch = 1
        self._subscriptions: list[Subscription] = []
        self._tag = 0
        self._unacked: dict[int, tuple[Subscription, Stored]] = {}
        self._published = 0
        #: Unconfirmed publishes by number. The value is the queue and the message, or None if no queue has stored it.
        self._outstanding: dict[int, tuple[Queue, Stored] | None] = {}
        self._verdicts: dict[int, bool] = {}
        self._is_flushing = False
        broker.sessions.append(self)

    def unconfirmed(self) -> Iterator[tuple[Queue, Stored]]:
        """Yield the stored messages whose confirms were not sent."""
        return (one for one in self._outstanding.values() if one is not None)

    def subscribe(self, queue: str, tag: str, on_done: Callable[[], None], auto_ack: bool) -> None:
        """Handle ``basic.consume``."""
        subscription = Subscription(self, tag, self._broker.queues[queue], self.prefetch, auto_ack)
        self._subscriptions.append(subscription)
        subscription.queue.subscriptions.append(subscription)
        self.connection.down(on_done)
        self._broker.pump(subscription.queue)

    def cancel(self, tag: str, on_done: Callable[[], None]) -> None:
        """Handle ``basic.cancel``: deliver no more; accept acks for earlier deliveries."""
        for subscription in self._subscriptions:
            if subscription.tag == tag and subscription in subscription.queue.subscriptions:
                subscription.queue.subscriptions.remove(subscription)
        self.connection.down(on_done)

    def deliver(self, subscription: Subscription, stored: Stored) -> None:
        """Send ``basic.deliver``."""
        self._tag += 1
        tag = self._tag
        if subscription.auto_ack:
            self._broker.settle(subscription.queue, stored, is_ack=True)
        else:
            subscription.unacked += 1
            self._unacked[tag] = (subscription, stored)
        method = pika.spec.Basic.Deliver(
            subscription.tag, tag, stored.redelivered, stored.exchange, stored.routing_key
        )  # fmt: skip
        self.connection.down(partial(self._channel.receive, method, stored))

    def answer(self, tag: int, *, multiple: bool, is_ack: bool) -> None:
        """Handle ``basic.ack``, or ``basic.reject`` without requeueing."""
        tags = [one for one in self._unacked if one <= tag] if multiple else [tag]
        if tag not in self._unacked:
            self._broker.history.fail("delivery tags", f"406 PRECONDITION_FAILED - unknown delivery tag {tag}")
        queues = {}
        for one in tags:
            subscription, stored = self._unacked.pop(one)
            subscription.unacked -= 1
            queues[subscription.queue.name] = subscription.queue
            self._broker.settle(subscription.queue, stored, is_ack=is_ack)
        for queue in queues.values():
            self._broker.pump(queue)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, mandatory: bool
    ) -> None:
        """Handle ``basic.publish``."""
        broker = self._broker
        self._published += 1
        number = self._published
        queue = broker.route(exchange, routing_key)
        self._outstanding[number] = None
        is_refused = False
        if queue is None and mandatory:
            broker.history.say("broker", f"returns {properties.message_id}, no queue for {routing_key}")
            method = pika.spec.Basic.Return(NO_ROUTE, "NO_ROUTE", exchange, routing_key)
            self.connection.down(partial(self._channel.receive_return, method, properties, body))
            if broker.blocks and broker.random.random() < broker.blocks:
                broker.history.hit("a publisher is blocked between a return and its confirm")
                self.connection.block(0.3)
        elif queue is not None and broker.is_full and not queue.subscriptions:
            is_refused = True
            broker.history.say("broker", f"refuses {properties.message_id}, {queue.name} is full")
        elif queue is not None:
            self._outstanding[number] = (queue, broker.store(queue, exchange, routing_key, properties, body))
        delay = broker.random.choice((0.0, 0.0, 0.001, 0.01))
        if queue is not None:  # A returned message is not written to disk, so its confirm follows immediately.
            delay += broker.slowness * broker.random.random()
        broker.clock.after(delay, partial(self._decided, number, is_refused))

    def _decided(self, number: int, is_refused: bool) -> None:
        if self.is_gone:
            return
        self._verdicts[number] = is_refused
        if not self._is_flushing:
            self._is_flushing = True
            self._broker.clock.after(self._broker.random.choice((0.0, 0.0, 0.005)), self._flush)

    def _flush(self) -> None:
        """Send the confirms that are due: some with one confirm for several messages, others in any order."""
        self._is_flushing = False
        random, history = self._broker.random, self._broker.history
        if self.is_gone:
            return
        if random.random() < 0.6:
            last = 0
            for number in self._outstanding:
                if self._verdicts.get(number, True):
                    break
                last = number
            if last:
                if sum(number <= last for number in self._outstanding) > 1:
                    history.hit("one confirm for several messages")
                for number in [one for one in self._outstanding if one <= last]:
                    del self._outstanding[number], self._verdicts[number]
                self._confirm(pika.spec.Basic.Ack(last, True))
        left = list(self._verdicts)
        random.shuffle(left)
        if any(number < max(left[:place], default=0) for place, number in enumerate(left)):
            history.hit("confirms out of order")
        for number in left:
            del self._outstanding[number]
            if self._verdicts.pop(number):
                history.hit("a negative confirm")
                self._confirm(pika.spec.Basic.Nack(number, False))
            else:
                self._confirm(pika.spec.Basic.Ack(number, False))

    def _confirm(self, method: pika.spec.Basic.Ack | pika.spec.Basic.Nack) -> None:
        self.connection.down(partial(self._channel.confirm, SimpleNamespace(method=method)))

    def end(self) -> None:
        """Requeue all unacked deliveries, because the connection is lost."""
        if self.is_gone:
            return
        self.is_gone = True
        self._broker.sessions.remove(self)
        queues = {}
        for subscription in self._subscriptions:
            if subscription in subscription.queue.subscriptions:
                subscription.queue.subscriptions.remove(subscription)
        for subscription, stored in self._unacked.values():
            queues[subscription.queue.name] = subscription.queue
            self._broker.requeue(subscription.queue, stored)
        for queue in queues.values():
            self._broker.pump(queue)
