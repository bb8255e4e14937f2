"""A consumer that empties a queue in order, and acknowledges each message only after the message is safe elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.ack_batching import AckBatch
from runner.amqp.confirms_and_returns import ConfirmWindow, ReturnKey
from runner.amqp.properties import encode
from runner.amqp.reply_code import close_of
from runner.amqp.session import Session
from runner.amqp.wire.property_codec import Properties
from runner.errors import BrokerBlocked, BrokerError
from runner.messages import Event

#: The number of consecutive zero counts that prove a queue empty. A count may overtake earlier deliveries. So the queue
#: is empty only if no delivery arrives between two counts.
EMPTY_ANSWERS = 2
#: The number of messages to acknowledge together.
ACK_BATCH = 100
#: Seconds between two checks of ``is_stopped``.
BEAT = 0.1
#: Seconds between two checks of a queue that contains messages but delivers none.
INTERVAL = 0.05
#: Seconds without progress after which the consumer fails.
STALLED = 60.0


class Emptier:
    """A consumer that removes up to ``limit`` messages from a queue, and that the caller can stop early.

    Before stopping, the consumer lets its prefetch fill up: it keeps handling messages, but acknowledges none, until
    the prefetch is used up or the queue is empty. Only then does the consumer cancel its subscription. If a quorum
    queue delivered a message during the cancellation, the message might move to the end of the queue. The queue would
    also count the requeued message as a failed delivery. Messages are therefore requeued only if the process is killed
    or a message cannot be saved. Subclasses implement ``_take``.
    """

    #: The maximum number of unacked messages.
    window = 500

    def __init__(
        self,
        url: str,
        name: str,
        queue: str,
        limit: int | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``name`` is the connection's name. ``on_progress`` is called with the number of removed messages."""
        self._queue, self._limit, self._on_progress, self._is_stopped = queue, limit, on_progress, is_stopped
        self._where = f"queue {queue!r}"
        self._session = Session(url, name, self._opened)
        self._acks = AckBatch()
        #: The unconfirmed copies of messages, by the delivery tag of the original.
        self._unconfirmed: ConfirmWindow[int] = ConfirmWindow(self._on_outcome, self._go_on)
        #: The numbers of all deliveries, of the deliveries passed to ``_take``, and of the acknowledged deliveries.
        self._seen = self._taken = self._acked = 0
        self._prefetch = self.window if limit is None else max(1, min(self.window, limit))
        self._consumer_tag: str | None = None
        self._is_leaving = self._is_cancelled = False
        self._problem: Exception | None = None
        self._asked, self._zeros = False, 0
        self._heard = time.monotonic()
        #: The number of removed messages.
        self.done = 0

    def run(self) -> int:
        """Remove the messages. Return the number of removed messages. After an error, this number is in ``done``.

        Raises BrokerUnreachable, and BrokerBlocked if the broker does not confirm a message. Raises PublishRefused or
        Unroutable if the broker refuses or returns a message. Also raises the errors of ``_take``. After an error, the
        remaining messages are still in the queue.
        """
        self._session.run()
        return self.done

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        """Save one message, and call ``_publish`` or ``_settle`` with its delivery tag."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Save the messages that ``_take`` has collected. Called when the queue has no more messages for now."""

    def _publish_event(self, tag: int, event: Event) -> None:
        """Publish an event for a delivery, which is acknowledged after the event is confirmed."""
        one = encode(event)
        self._publish(tag, one.key, one.body, one.properties)

    def _publish(self, tag: int, place: ReturnKey, body: bytes, properties: Properties) -> None:
        """Publish a message whose confirm allows the delivery to be acknowledged.

        A delivery has at most one unconfirmed message at a time.
        """
        if not self._unconfirmed:
            self._heard = time.monotonic()
        self._unconfirmed.publish(tag, place, body, properties)

    def _is_safe(self, tag: int) -> bool:
        """Return True if a delivery may be acknowledged after a confirm.

        Otherwise, publish the delivery's next message.
        """
        return True

    def _lose(self, tag: int) -> None:
        """Handle a delivery whose published message was refused or returned by the broker."""

    def _give_up(self) -> None:
        """Acknowledge the deliveries that need no further confirm.

        Otherwise, the broker would deliver these messages again, and their copies would be duplicates.
        """

    def _settle(self, tags: list[int]) -> None:
        """Acknowledge deliveries whose messages are safe."""
        for tag in tags:
            self._acks.done(tag)
        self.done += len(tags)
        self._heard = time.monotonic()
        self._on_progress(self.done)
        if not self._is_leaving and (not self._unconfirmed or self._acks.waiting >= ACK_BATCH):
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._acked += self._acks.waiting
        self._acks.send(self._channel)

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        self._unconfirmed.open(channel, self._begin)

    def _begin(self) -> None:
        self._channel.basic_qos(prefetch_count=self._prefetch)
        self._consume()
        self._beat()

    def _consume(self) -> None:
        self._is_leaving = self._is_cancelled = False
        self._zeros = 0
        self._consumer_tag = self._channel.basic_consume(self._queue, self._on_delivery, callback=lambda _: self._ask())

    def _beat(self) -> None:
        if self._session.is_finished:
            return
        if self._is_stopped():
            self._leave()
        if time.monotonic() - self._heard > STALLED:
            self._give_up()
            self._acknowledge()
            why = "the broker is blocked" if self._unconfirmed else "another consumer has exclusive access"
            self._session.fail(BrokerBlocked(f"{self._where}: no progress within {STALLED:g} s; {why}"))
        self._session.loop.call_later(BEAT, self._beat)

    def _on_delivery(self, _: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._zeros = 0
        self._seen += 1
        if self._problem is not None or self._session.is_finished:
            self._cancel_if_quiet()
            return  # the broker requeues the message
        self._taken += 1
        try:
            self._take(method, properties, body)
        except Exception as error:  # noqa: BLE001 - pika would treat it as a lost connection
            self._break_off(error)
            return
        if self._is_enough() or self._is_leaving or self._is_stopped():
            self._leave()

    def _is_enough(self) -> bool:
        """Return True if the consumer has received enough messages."""
        return self._limit is not None and self._taken >= self._limit

    def _on_outcome(self, tag: int, error: BrokerError | None) -> None:
        if self._session.is_finished:
            return
        if error is not None:
            self._break_off(error)
            self._lose(tag)
        elif self._is_safe(tag):
            self._settle([tag])

    def _break_off(self, error: Exception) -> None:
        """Stop with an error. Messages that are not yet safe elsewhere remain in the queue."""
        if self._problem is None:
            self._problem = error
            self._leave()

    def _leave(self) -> None:
        self._is_leaving = True
        self._cancel_if_quiet()

    def _cancel_if_quiet(self) -> None:
        """Cancel the consumer if no further delivery is possible."""
        is_quiet = self._seen - self._acked >= self._prefetch or self._zeros >= EMPTY_ANSWERS
        if self._is_leaving and is_quiet and self._consumer_tag is not None:
            tag, self._consumer_tag = self._consumer_tag, None
            self._channel.basic_cancel(tag, callback=lambda _: self._cancelled())

    def _cancelled(self) -> None:
        self._is_cancelled = True
        self._go_on()

    def _go_on(self) -> None:
        """Finish if all messages are handled. Otherwise, ask the broker for the number of remaining messages."""
        if self._session.is_finished:
            return
        if self._is_cancelled:
            self._save_rest()
        if self._unconfirmed:
            return  # the last confirm calls this method again
        if not self._is_cancelled:
            self._ask()
        else:
            self._acknowledge()
            if self._problem is not None:
                self._session.fail(self._problem)
            else:
                self._on_end()

    def _on_end(self) -> None:
        """Finish after all received messages have been acknowledged."""
        self._session.finish()

    def _save_rest(self) -> None:
        if self._problem is not None:
            return
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001 - pika would treat it as a lost connection
            self._problem = error

    def _ask(self) -> None:
        if not self._asked and not self._session.is_finished:
            self._asked = True
            self._channel.queue_declare(self._queue, passive=True, callback=self._counted)

    def _counted(self, frame: Any) -> None:
        self._asked = False
        self._zeros = 0 if frame.method.message_count else self._zeros + 1
        self._save_rest()
        if self._problem is not None or self._zeros >= EMPTY_ANSWERS:
            self._leave()
        if self._unconfirmed or self._is_cancelled:
            self._go_on()
        elif self._consumer_tag is None:
            return  # ``_cancelled`` continues after the broker's answer
        elif self._zeros:
            self._ask()
        else:
            self._session.loop.call_later(INTERVAL, self._ask)

    def _closed(self, _: Channel, error: Exception) -> None:
        self._session.fail(close_of(error).error(self._where))
