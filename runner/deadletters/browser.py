"""Read the messages of a dead-letter queue and leave them there, or take those that were written down already.

Reading is consuming without an answer: when its channel closes, the broker puts everything back where it was.
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
from runner.deadletters.json_record import fingerprint
from runner.errors import RunnerError

#: How many messages one consumer may hold; AMQP's largest number, because quorum queues take 0 for 2000.
MOST_HELD = 65_535
#: How many taken messages are acknowledged at once.
ACK_BATCH = 1000
#: Seconds between two questions whether a queue holds more.
INTERVAL = 0.05
#: Seconds for which a queue may say that it holds messages, and deliver none.
STALLED = 20.0
#: Seconds for which a queue must be silent and empty when less came than it had said.
PATIENCE = 2.0
#: Seconds after which reading ends in a queue that gets new messages faster than they are read.
ENDLESS = 2.0


class Reader:
    """Gets each message of ``queue`` once, and answers none; with ``limit``, only so many.

    A queue delivers on and on while it may: ``_on_letter`` is given what comes, with its delivery tag.
    """

    def __init__(self, url: str, queue: str, *, credit: int = MOST_HELD, limit: int | None = None) -> None:
        """``credit`` is how many messages may be on their way at once, beside those that are held."""
        self._queue, self._step, self._limit = queue, credit, limit
        # Where nothing is answered each consumer takes all it may before the next one takes the first, and a quorum
        # queue puts back what each held, one after the other: so the order stays.
        self._low = 1 if credit == MOST_HELD else max(1, credit // 2)
        self._consumers: list[str] = []
        self._is_closing = False
        self._session = Session(url, "runner dlq", self._opened)
        self._credit = 0
        self._enough: float | None = None
        self._expected = 0
        self._zeros = 0
        self._seen_before = 0
        self._heard = time.monotonic()
        #: How many messages came, and how many of them were answered.
        self.seen = 0
        self.answered = 0

    def run(self) -> None:
        """Read. Raises BrokerAway, and RunnerError where the queue gives none of what it holds."""
        self._session.run()

    def _on_letter(self, tag: int, letter: DeadLetter) -> None:
        raise NotImplementedError

    def _on_end(self) -> None:
        """All was read."""
        self._close()

    def _close(self) -> None:
        """End, so that the broker puts everything back that is not answered."""
        if self._is_over:
            return
        self._is_closing = True
        if not self._consumers:
            self._session.finish()
        # A quorum queue would deliver what one consumer gives back to the next one that is about to go, and so on:
        # the order would be another, and 100,000 messages would keep it busy for minutes.
        for tag in reversed(self._consumers[1:]):
            self._channel.basic_cancel(tag)
        if self._consumers:
            self._channel.basic_cancel(self._consumers[0], callback=lambda _: self._give_back())

    def _give_back(self) -> None:
        """End the session: when its channel closes, the queue gets the unacked messages back."""
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
        # What is held keeps its consumer's places; another consumer on the same channel has places of its own.
        self._credit += self._step
        self._channel.basic_qos(prefetch_count=self._step)
        tag = f"dlq-{len(self._consumers):06}"
        self._consumers.append(tag)
        self._channel.basic_consume(self._queue, self._on_delivery, consumer_tag=tag)

    @property
    def _is_over(self) -> bool:
        """Whether nothing more can be asked of the broker, or shall be."""
        return self._is_closing or self._session.is_finished or not self._channel.is_open

    @property
    def _is_read(self) -> bool:
        return self._limit is not None and self.seen >= self._expected

    def _on_delivery(self, _: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if self._is_read or self._is_over:
            return  # it came after this began
        self.seen += 1
        try:
            self._on_letter(method.delivery_tag, dead_letter_of(self._queue, method, properties, body))
        except Exception as error:  # noqa: BLE001 - pika would take it for the end of the connection
            self._is_closing = True
            self._session.fail(error)
            return
        self._refill()
        if self._is_read:
            self._on_end()

    @property
    def _held(self) -> int:
        """How many messages will not be answered as long as this reads."""
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
        # The answer overtakes what the queue had sent by then; so only when nothing came between two of them is
        # nothing on its way.
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
        elif now - self._heard > STALLED:
            held = f"{frame.method.message_count} messages, and none is delivered within {STALLED:g} s"
            self._fail(f"{held}; another consumer has it for itself, or the broker is overloaded")
        else:
            self._later()

    def _is_exhausted(self, now: float) -> bool:
        if self._enough is None:
            # Somebody else took the others; or a quorum queue that is busy calls itself empty, and then goes on.
            return self._zeros >= EMPTY_ANSWERS and now - self._heard > PATIENCE
        return self._zeros >= EMPTY_ANSWERS or now - self._enough > ENDLESS

    @property
    def _is_waiting(self) -> bool:
        """Whether there is a reason on this side for which no more messages come."""
        return False

    def _later(self) -> None:
        if not self._is_over:
            self._session.loop.call_later(INTERVAL, self._ask)

    def _closed(self, _: Channel, error: Exception) -> None:
        self._session.fail(close_of(error).error(f"queue {self._queue!r}"))

    def _fail(self, why: str) -> None:
        self._session.fail(RunnerError(f"queue {self._queue!r}: {why}"))


class Browser(Reader):
    """Shows each message to ``on_letter``."""

    def __init__(self, url: str, queue: str, on_letter: Callable[[DeadLetter], None]) -> None:
        super().__init__(url, queue)
        self._show = on_letter

    def _on_letter(self, tag: int, letter: DeadLetter) -> None:
        self._show(letter)


class Taker(Reader):
    """Takes off the queue what is known already, by its fingerprint and how often it is there, and nothing else."""

    def __init__(self, url: str, queue: str, known: Counter[bytes], on_taken: Callable[[int], None]) -> None:
        super().__init__(url, queue)
        self._known, self._on_taken = known.copy(), on_taken
        self._wanted = known.total()
        self._acks = AckBatch()

    @property
    def _held(self) -> int:
        return self.seen - self.answered + self._acks.waiting

    def _on_letter(self, tag: int, letter: DeadLetter) -> None:
        mark = fingerprint(letter)
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
        self._on_taken(self.answered)
