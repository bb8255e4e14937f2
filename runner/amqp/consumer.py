"""A consumer for one or more queues. A callback gets the deliveries, and any thread may acknowledge them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.channel import Channel

from runner.amqp.ack_batching import AckBatch
from runner.amqp.io_thread import IoThread
from runner.amqp.link import Link
from runner.amqp.properties import message_of
from runner.amqp.reply_code import Close, CloseKind
from runner.amqp.wire.property_codec import Properties
from runner.config.version import CLOSES_CHANNELS, parsed
from runner.messages import Message

#: The time limit in seconds for the broker to confirm all subscriptions on a new channel.
SUBSCRIBE_TIMEOUT = 30.0


class Delivery:
    """One delivery of a message. Any thread may call ``ack`` or ``reject``, but only one such call is allowed.

    The broker redelivers a message that is neither acknowledged nor rejected.
    """

    __slots__ = ("_body", "_channel", "_consumer", "_method", "properties", "queue")

    def __init__(
        self,
        consumer: Consumer,
        channel: Channel,
        queue: str,
        method: Any,
        properties: Properties,
        body: bytes,
    ) -> None:
        self._consumer, self._channel = consumer, channel
        self._method, self.properties, self._body = method, properties, body
        self.queue = queue

    def message(self) -> Message:
        """Return the message to pass to the handler."""
        return message_of(self._method, self.properties, self._body, self.queue)

    @property
    def problem(self) -> str | None:
        """The reason why the properties cannot be decoded, or None if they can.

        A message with a problem must not be handled.
        """
        return self.properties.problem or None

    @property
    def is_alive(self) -> bool:
        """True if the delivery can still be acknowledged or rejected.

        After its channel has closed, the broker redelivers the message.
        """
        return self._consumer.channel is self._channel

    def ack(self) -> None:
        """Acknowledge the message."""
        self._consumer.answer(self._channel, self._method.delivery_tag, is_ack=True)

    def reject(self) -> None:
        """Reject the message, so that the broker dead-letters it."""
        self._consumer.answer(self._channel, self._method.delivery_tag, is_ack=False)


class Consumer:
    """A connection that consumes from queues. After each reconnection, the consumer subscribes to its queues again.

    All callbacks run on the I/O thread:

    - ``on_delivery`` gets each delivery.
    - ``on_state`` gets None when all subscriptions are active, and the reason when a subscription is lost.
    - ``on_missing`` gets the reason when a queue does not exist.
    - ``on_refused`` gets the reason when the user lacks permission to consume.
    - ``on_timeout`` gets the queue and the timeout in seconds when an ack may have exceeded the broker's
      ``consumer_timeout``. An unknown queue is "", and an unknown timeout is None.

    The prefetch of each queue starts at ``at_first``. The consumer raises the prefetch to ``prefetch`` after N answered
    messages. N is ``prefetch`` times the number of queues.
    """

    def __init__(
        self,
        io: IoThread,
        urls: Sequence[str],
        name: str,
        queues: Sequence[str],
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_state: Callable[[str | None], None],
        on_missing: Callable[[str], None],
        at_first: int = 1,
        on_refused: Callable[[str], None] | None = None,
        on_timeout: Callable[[str, float | None], None] = lambda *_: None,
    ) -> None:
        self._io = io
        self._at_first = min(at_first, prefetch)
        self._careful_left = 0
        self._queues = list(queues)
        self._prefetch = prefetch
        self._on_delivery, self._on_state, self._on_missing = on_delivery, on_state, on_missing
        self._on_refused, self._on_timeout = on_refused or on_missing, on_timeout
        self._waiting: deque[tuple[Channel, int, bool]] = deque()
        self._scheduled = False
        self._acks = AckBatch()
        self._subscribed = 0
        #: True once all subscriptions have been active at the same time.
        self._was_subscribed = False
        self._opened_at = 0.0
        #: The time at which the broker was asked why it had cancelled a subscription. None if it was not asked on the
        #: current channel.
        self._asked_at: float | None = None
        #: The consumer tags that the broker has confirmed on the current channel.
        self._tags: set[str] = set()
        #: The queue of each subscription, by consumer tag.
        self._queue_of: dict[str, str] = {}
        self._cancelled = False
        #: The current channel. Deliveries from earlier channels can no longer be acknowledged or rejected.
        self.channel: Channel | None = None
        self._link = Link(io, urls, name, self._opened, self._lost)

    def start(self) -> None:
        """Start connecting to the broker and subscribing to the queues."""
        self._link.start()

    def cancel(self, on_cancelled: Callable[[], None]) -> None:
        """Cancel all subscriptions.

        Existing deliveries can still be acknowledged. Call this method on the I/O thread.
        """
        self._cancelled = True
        channel = self.channel
        tags = list(channel.consumer_tags) if channel is not None and channel.is_open else []
        if channel is None or not tags:
            on_cancelled()
            return
        waiting = set(tags)

        def cancelled(tag: str) -> None:
            waiting.discard(tag)
            if not waiting:
                on_cancelled()

        for tag in tags:
            channel.basic_cancel(tag, callback=lambda _, tag=tag: cancelled(tag))

    def close(self, on_closed: Callable[[], None]) -> None:
        """Send all queued acks, then close the connection. Call this method on the I/O thread."""
        self._cancelled = True
        self._send_acks()
        self.channel = None
        self._link.close(on_closed)

    def answer(self, channel: Channel, tag: int, *, is_ack: bool) -> None:
        """Queue an ack or a reject, to be sent together with other queued acks and rejects.

        Any thread may call this method.
        """
        self._waiting.append((channel, tag, is_ack))
        if not self._scheduled:
            self._scheduled = True
            self._io.call(self._send_acks)

    def _send_acks(self) -> None:
        # The flag is cleared first, so that an ack or reject appended during the loop schedules another call.
        self._scheduled = False
        current = self.channel
        while self._waiting:
            channel, tag, is_ack = self._waiting.popleft()
            # The delivery tags of a lost channel are no longer valid. The broker redelivers the channel's messages.
            if current is not None and channel is current and current.is_open:
                if is_ack:
                    self._acks.done(tag)
                else:
                    current.basic_reject(tag, requeue=False)
                    self._acks.answered(tag)
                if self._careful_left:
                    self._careful_left -= 1
                    if not self._careful_left:
                        self._relax(channel)
        if current is not None and current.is_open:
            for tag, multiple in self._acks.take():
                current.basic_ack(tag, multiple=multiple)

    def _opened(self, channel: Channel) -> None:
        self._acks = AckBatch()
        self._subscribed = 0
        self._tags = set()
        self._queue_of.clear()
        self._asked_at = None
        self._opened_at = time.monotonic()
        self.channel = channel
        if self._cancelled:
            return
        channel.add_on_cancel_callback(lambda frame: self._find_cause(channel, frame.method.consumer_tag))
        # After a crash or a lost connection, the broker first redelivers the worker's unacked messages and counts each
        # redelivery. While the prefetch is small, a second crash increases only the counts of messages whose handlers
        # have started. The prefetch remains small until all messages that could have been unacked are answered.
        self._careful_left = self._prefetch * len(self._queues) if self._prefetch > self._at_first else 0
        self._set_prefetch(channel, self._at_first)

    def _set_prefetch(self, channel: Channel, prefetch: int) -> None:
        channel.basic_qos(prefetch_count=prefetch, callback=lambda _: self._subscribe(channel))

    def _relax(self, channel: Channel) -> None:
        """Raise the prefetch to the configured value, because the first messages have caused no crash.

        Because a subscription's prefetch cannot be changed, a second subscription prefetches the additional messages.
        """
        if channel.is_open and not self._cancelled:
            self._set_prefetch(channel, self._prefetch - self._at_first)

    def _subscribe(self, channel: Channel) -> None:
        if self._cancelled:
            return
        for queue in self._queues:
            tag = channel.basic_consume(queue, self._receiver(channel, queue), callback=self._count)
            self._queue_of[tag] = queue

    def _receiver(self, channel: Channel, queue: str) -> Callable[..., None]:
        on_delivery = self._on_delivery

        def receive(_: Channel, method: Any, properties: Properties, body: bytes) -> None:
            on_delivery(Delivery(self, channel, queue, method, properties, body))

        return receive

    def _count(self, frame: Any) -> None:
        self._subscribed += 1
        self._tags.add(frame.method.consumer_tag)
        if self._subscribed == len(self._queues):
            self._was_subscribed = True
            self._on_state(None)

    def _find_cause(self, channel: Any, tag: str) -> None:
        """Find out why the broker has cancelled a subscription. The cancellation itself contains no reason.

        If the queue does not exist, the broker closes the channel. If the queue exists, there are three possible
        causes, each of which requires a new subscription:

        - RabbitMQ has moved the queue to another node.
        - The user has lost permission to read from the queue.
        - An ack for a quorum queue exceeded the ``consumer_timeout`` (RabbitMQ 4.3 and later).
        """
        queue = self._queue_of.get(tag, "")
        if not self._is_current(channel):
            return

        def is_there(_: Any) -> None:
            if self._is_current(channel):
                if _may_time_out(channel):
                    self._on_timeout(queue, None)
                self._link.reopen(f"queue {queue!r}: the broker cancelled the consumer; subscribing again")

        if self._asked_at is None:
            self._asked_at = time.monotonic()
        channel.queue_declare(queue, passive=True, callback=is_there)

    def _is_current(self, channel: Channel) -> bool:
        return not self._cancelled and self.channel is channel and bool(self.channel and self.channel.is_open)

    def _lost(self, reason: str, close: Close) -> None:
        self.channel = None
        self._on_state(reason)
        if close.is_consumer_timeout:
            self._on_timeout("", close.consumer_timeout)
        is_hopeless = self._link.is_hopeless
        # The broker's authorization backend, such as LDAP or HTTP, may be unreachable for a while. Therefore, a refused
        # user who was allowed to consume earlier gets another attempt.
        if (close.verdict is CloseKind.PERMANENT and is_hopeless) or (close.is_denial and not self._was_subscribed):
            self._on_refused(reason)
        elif close.verdict is CloseKind.MISSING or is_hopeless:
            self._on_missing(reason)

    def lost(self, now: float) -> str | None:
        """Return the reason why no messages arrive although the broker is reachable, or None if there is none.

        If the broker is unreachable, return None. ``now`` is the monotonic time in seconds. Call this method on the I/O
        thread.
        """
        channel = self.channel
        if self._cancelled or channel is None or not channel.is_open:
            return None  # the link itself reports the reason and reconnects
        if self._subscribed < len(self._queues):
            is_late = now - self._opened_at > SUBSCRIBE_TIMEOUT
            return f"not subscribed within {SUBSCRIBE_TIMEOUT:g} s" if is_late else None
        # After a cancellation, pika has already forgotten the subscription, but the broker's reason is not known yet.
        if self._asked_at is not None and now - self._asked_at <= SUBSCRIBE_TIMEOUT:
            return None
        return None if self._tags <= set(channel.consumer_tags) else "lost its consumer"

    @property
    def close_reason(self) -> Close:
        """The code and reason of the last connection or channel close."""
        return self._link.close_reason

    def problem(self) -> str | None:
        """Return the reason why the queues are currently not consumed, or None if they are consumed."""
        if self._link.problem is not None:
            return self._link.problem
        return None if self._subscribed >= len(self._queues) else "not subscribed yet"


def _may_time_out(channel: Channel) -> bool:
    """Return True if the broker cancels a consumer after a late ack, as RabbitMQ 4.3 and later versions do."""
    return not CLOSES_CHANNELS.holds(parsed(str((channel.connection.server_properties or {}).get("version", ""))))
