"""Readers of a dead-letter queue. A browser only reads messages. A remover removes known messages.

A reader receives messages without acknowledging them. When the reader's channel closes, the broker requeues every
unacked message at its original position.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pika
from pika.channel import Channel

from runner.admin.emptier import EMPTY_ANSWERS
from runner.amqp.ack_batching import AckBatch
from runner.amqp.reply_code import close_of
from runner.amqp.session import Session
from runner.deadletters.dead_letter import DeadLetter, dead_letter_of
from runner.deadletters.json_record import digest
from runner.errors import RunnerError

#: The prefetch count of a consumer. This is AMQP's maximum, because quorum queues replace 0 (no limit) with 2000.
MAX_PREFETCH = 65_535
#: The number of messages that are acknowledged in one batch.
ACK_BATCH = 1000
#: Seconds between two counts of a queue's ready messages.
COUNT_INTERVAL = 0.05
#: Seconds without a delivery after which reading fails if the queue still has ready messages.
DELIVERY_TIMEOUT = 20.0
#: Seconds without a delivery after which an empty queue counts as fully read, even if it delivered fewer messages than
#: the first count.
SILENCE_TIMEOUT = 2.0
#: Seconds for which reading continues beyond the first count while new messages arrive.
MAX_OVERTIME = 2.0


class Reader:
    """A consumer that receives up to ``limit`` messages from ``queue``, each message once, and acknowledges none.

    ``_on_message`` is called with each message and its delivery tag.
    """

    def __init__(self, url: str, queue: str, *, credit: int = MAX_PREFETCH, limit: int | None = None) -> None:
        """``credit`` is the number of messages that the broker may deliver in addition to the unacked messages."""
        self._queue, self._step, self._limit = queue, credit, limit
        # Because no message is acknowledged, each consumer receives all its messages before the next consumer is added.
        # A quorum queue requeues messages consumer by consumer, so the messages keep their order.
        self._low = 1 if credit in (MAX_PREFETCH, limit) else max(1, credit // 2)
        self._consumers: list[str] = []
        self._is_closing = False
        self._session = Session(url, "runner dlq", self._opened)
        self._credit = 0
        self._enough: float | None = None
        self._expected = 0
        self._zeros = 0
        self._seen_before = 0
        self._heard = time.monotonic()
        #: The numbers of received and of acknowledged messages.
        self.seen = 0
        self.answered = 0

    def run(self) -> None:
        """Read the messages. Raises BrokerUnreachable, or RunnerError if ready messages are not delivered."""
        self._session.run()

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        raise NotImplementedError

    def _on_end(self) -> None:
        """Stop reading. A subclass can complete its work first."""
        self._close()

    def _close(self) -> None:
        """Stop consuming, so that the broker requeues the unacked messages."""
        if self._is_over:
            return
        self._is_closing = True
        if not self._consumers:
            self._session.finish()
        # In any other order, a quorum queue would redeliver a cancelled consumer's messages to the consumer that is
        # cancelled next. The messages would change their order, and 100,000 messages would keep the queue busy for
        # minutes.
        for tag in reversed(self._consumers[1:]):
            self._channel.basic_cancel(tag)
        if self._consumers:
            self._channel.basic_cancel(self._consumers[0], callback=lambda _: self._give_back())

    def _give_back(self) -> None:
        """Close the session and its channel, so that the broker requeues the unacked messages."""
        self._session.finish()

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        channel.queue_declare(self._queue, passive=True, callback=self._begin)

    def _begin(self, frame: Any) -> None:
        self._expected = frame.method.message_count
        if self._limit is not None:
            self._expected = min(self._expected, self._limit)
        if self._expected == 0:
            self._on_end()
            return
        self._subscribe()
        self._ask()

    def _subscribe(self) -> None:
        # Unacked messages use up the prefetch of their consumer. Another consumer on the same channel has a prefetch of
        # its own.
        self._credit += self._step
        self._channel.basic_qos(prefetch_count=self._step)
        tag = f"dlq-{len(self._consumers):06}"
        self._consumers.append(tag)
        self._channel.basic_consume(self._queue, self._on_delivery, consumer_tag=tag)

    @property
    def _is_over(self) -> bool:
        """True if further requests to the broker are impossible or unwanted."""
        return self._is_closing or self._session.is_finished or not self._channel.is_open

    @property
    def _is_read(self) -> bool:
        return self._limit is not None and self.seen >= self._expected

    def _on_delivery(self, _: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if self._is_read or self._is_over:
            return  # the broker sent this message before the cancellation
        self.seen += 1
        try:
            self._on_message(method.delivery_tag, dead_letter_of(self._queue, method, properties, body))
        except Exception as error:  # noqa: BLE001 - pika would treat the error as a lost connection
            self._is_closing = True
            self._session.fail(error)
            return
        self._refill()
        if self._is_read:
            self._on_end()

    @property
    def _held(self) -> int:
        """The number of messages that remain unacked until the reader stops."""
        return self.seen - self.answered

    def _refill(self) -> None:
        if self._credit - self._held < self._low and not self._is_over:
            self._subscribe()

    def _ask(self) -> None:
        if not self._is_over:
            self._seen_before = self.seen
            self._channel.queue_declare(self._queue, passive=True, callback=self._counted)

    def _counted(self, frame: Any) -> None:
        if self._is_over:
            return
        now = time.monotonic()
        is_quiet = self.seen == self._seen_before
        if not is_quiet or self._is_waiting:
            self._heard = now
        # The count can arrive before messages that the queue sent earlier. So all messages have arrived only if no
        # message arrives between two counts.
        self._zeros = self._zeros + 1 if is_quiet and not frame.method.message_count else 0
        if self._enough is None and self.seen >= self._expected:
            self._enough = now
        if self._is_read:
            self._later()
        elif self._is_exhausted(now):
            self._limit, self._expected = self.seen, self.seen
            self._on_end()
            self._later()
        elif self._zeros and self._enough is not None:
            self._ask()
        elif now - self._heard > DELIVERY_TIMEOUT:
            stalled = f"{frame.method.message_count} ready messages, but no delivery within {DELIVERY_TIMEOUT:g} s"
            self._fail(f"{stalled}; another consumer has exclusive access, or the broker is overloaded")
        else:
            self._later()

    def _is_exhausted(self, now: float) -> bool:
        if self._enough is None:
            # Another consumer has received the remaining messages, or a busy quorum queue wrongly reports 0 messages.
            return self._zeros >= EMPTY_ANSWERS and now - self._heard > SILENCE_TIMEOUT
        return self._zeros >= EMPTY_ANSWERS or now - self._enough > MAX_OVERTIME

    @property
    def _is_waiting(self) -> bool:
        """True if the reader itself delays further deliveries."""
        return False

    def _later(self) -> None:
        if not self._is_over:
            self._session.loop.call_later(COUNT_INTERVAL, self._ask)

    def _closed(self, _: Channel, error: Exception) -> None:
        self._session.fail(close_of(error).error(f"queue {self._queue!r}"))

    def _fail(self, why: str) -> None:
        self._session.fail(RunnerError(f"queue {self._queue!r}: {why}"))


class Browser(Reader):
    """A reader that passes each message to ``on_message``."""

    def __init__(
        self, url: str, queue: str, on_message: Callable[[DeadLetter], None], limit: int | None = None
    ) -> None:
        super().__init__(url, queue, credit=MAX_PREFETCH if limit is None else limit, limit=limit)
        self._show = on_message

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        self._show(message)


class Remover(Reader):
    """A reader that removes messages by digest. ``known`` contains the number of messages per digest."""

    def __init__(self, url: str, queue: str, known: Counter[bytes], on_removed: Callable[[int], None]) -> None:
        super().__init__(url, queue)
        self._known, self._on_removed = known.copy(), on_removed
        self._wanted = known.total()
        self._acks = AckBatch()

    @property
    def _held(self) -> int:
        return self.seen - self.answered + self._acks.waiting

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        mark = digest(message)
        if not self._known[mark]:
            return
        self._known[mark] -= 1
        self._acks.done(tag)
        self.answered += 1
        if self._acks.waiting >= ACK_BATCH:
            self._send()
        if self.answered == self._wanted:
            self._on_end()

    def _on_end(self) -> None:
        self._send()
        super()._on_end()

    def _send(self) -> None:
        if self._is_over:
            return
        self._acks.send(self._channel)
        self._on_removed(self.answered)
