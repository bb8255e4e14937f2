"""A broker in memory: queues, retry queues with a TTL, routing, deliveries, and injected faults.

Sources: RabbitMQ's guides "Consumer Acknowledgements and Publisher Confirms", "Dead Letter Exchanges",
"Time-To-Live and Expiration" and "Consumer Prefetch".
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from runner.amqp.wire.property_codec import Properties
from tests.simulation.clock import Clock
from tests.simulation.history import History

if TYPE_CHECKING:
    from tests.simulation.session import Session, Subscription

#: The number of failed deliveries after which a quorum queue dead-letters a message.
DELIVERY_LIMIT = 100
EVENTS = "events"


@dataclass(eq=False)
class Stored:
    """One message in a queue."""

    position: int
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    redelivered: bool = False
    returns: int = 0


@dataclass(eq=False)
class Queue:
    """A queue with its messages and consumers."""

    name: str
    #: The TTL in seconds, and the queue that receives expired and rejected messages.
    ttl: float | None = None
    dead_letter: str | None = None
    ready: list[Stored] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    #: Messages that are delivered and not acknowledged.
    unacked: int = 0


class Broker:
    """All queues of one vhost. It calls ``on_stored`` for each message that reaches a queue."""

    def __init__(
        self, clock: Clock, random: Random, history: History, on_stored: Callable[[str, Stored], None]
    ) -> None:
        self.clock, self.random, self.history, self._on_stored = clock, random, history, on_stored
        self.queues: dict[str, Queue] = {}
        #: Routing keys of the event exchange, with the queue that each is bound to.
        self.bindings: dict[str, str] = {}
        self.sessions: list[Session] = []
        self.is_down = False
        #: True if queues refuse messages; and the longest delay of a confirm, in seconds.
        self.is_full = False
        self.slowness = 0.0
        #: The probability that an alarm blocks a publisher between a return and its confirm.
        self.blocks = 0.0
        self._position = 0

    def declare(self, queue: Queue) -> None:
        """Create a queue if it does not exist."""
        self.queues.setdefault(queue.name, queue)

    def delete(self, name: str) -> bool:
        """Delete a queue if it is empty."""
        queue = self.queues.get(name)
        if queue is None or queue.ready or queue.unacked:
            return False
        del self.queues[name]
        return True

    def route(self, exchange: str, routing_key: str) -> Queue | None:
        """Return the queue that a message is routed to."""
        if exchange == "":
            return self.queues.get(routing_key)
        return self.queues.get(self.bindings.get(routing_key, ""))

    def store(self, queue: Queue, exchange: str, routing_key: str, properties: Properties, body: bytes) -> Stored:
        """Add a message at the end of a queue."""
        self._position += 1
        stored = Stored(self._position, exchange, routing_key, properties, body)
        queue.ready.append(stored)
        self._on_stored(queue.name, stored)
        if queue.ttl is not None:
            self.clock.after(queue.ttl, partial(self._expire, queue, stored))
        self.pump(queue)
        return stored

    def _expire(self, queue: Queue, stored: Stored) -> None:
        if stored in queue.ready:
            queue.ready.remove(stored)
            self._dead_letter(queue, stored, "expired")

    def _dead_letter(self, queue: Queue, stored: Stored, reason: str) -> None:
        target = self.queues.get(queue.dead_letter or "")
        if target is None:
            # At-least-once dead-lettering keeps the message and tries again (RabbitMQ: "Quorum Queues").
            self.clock.after(1.0, partial(self._dead_letter, queue, stored, reason))
            return
        headers = {**(stored.properties.headers or {}), "x-first-death-queue": queue.name}
        headers["x-death"] = [{"queue": queue.name, "reason": reason, "count": 1}]
        fields = {name: getattr(stored.properties, name) for name in _FIELDS}
        properties = Properties.of(**{**fields, "headers": headers})
        self.history.say("broker", f"{properties.message_id} {reason} in {queue.name}, now in {target.name}")
        self.store(target, "", target.name, properties, stored.body)

    def pump(self, queue: Queue) -> None:
        """Deliver ready messages to subscriptions with room, in turn."""
        while queue.ready:
            found = next((one for one in queue.subscriptions if one.has_room), None)
            if found is None:
                return
            queue.subscriptions.remove(found)
            queue.subscriptions.append(found)
            queue.unacked += 1
            found.session.deliver(found, queue.ready.pop(0))

    def requeue(self, queue: Queue, stored: Stored) -> None:
        """Return an unacked message to its place in the queue."""
        queue.unacked -= 1
        stored.redelivered = True
        stored.returns += 1
        if stored.returns > DELIVERY_LIMIT:
            self.history.fail(
                "delivery limit",
                f"{stored.properties.message_id} was delivered more often than the delivery limit allows",
            )
        bisect.insort(queue.ready, stored, key=lambda one: one.position)

    def settle(self, queue: Queue, stored: Stored, *, is_ack: bool) -> None:
        """Handle the ack or the rejection of a delivery."""
        queue.unacked -= 1
        if not is_ack:
            self._dead_letter(queue, stored, "rejected")

    def restart(self, seconds: float) -> None:
        """Close all connections, and lose some of the messages that are not confirmed."""
        self.is_down = True
        self.clock.after(seconds, self._back)
        for session in list(self.sessions):
            for queue, stored in session.unconfirmed():
                if stored in queue.ready and self.random.random() < 0.5:
                    queue.ready.remove(stored)
                    self.history.hit("an unconfirmed message is lost by the broker")
                    self.history.say("broker", f"lost {stored.properties.message_id} in {queue.name}, unconfirmed")
            session.connection.lose("the broker restarts")

    def _back(self) -> None:
        self.is_down = False


_FIELDS = (
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
    "message_id", "timestamp", "type", "app_id",
)  # fmt: skip
