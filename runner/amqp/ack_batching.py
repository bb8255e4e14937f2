"""Ack batching, which acknowledges many consecutive deliveries with one ``basic.ack``."""

from __future__ import annotations

from pika.channel import Channel


class AckBatch:
    """The unacknowledged deliveries of one channel, which the broker numbers from 1 (AMQP 0-9-1).

    An ack with ``multiple`` acknowledges all deliveries up to its tag, so all of these deliveries must be done. The
    broker closes the channel with code 406 if an ack names a tag that was already acknowledged or rejected.
    """

    def __init__(self) -> None:
        self._next = 1
        self._done: set[int] = set()
        #: Tags that were acknowledged or rejected out of order.
        self._answered: set[int] = set()

    @property
    def waiting(self) -> int:
        """The number of deliveries that are done but not yet acknowledged."""
        return len(self._done)

    def done(self, tag: int) -> None:
        """Mark a delivery as done, so that the next batch acknowledges it."""
        self._done.add(tag)

    def answered(self, tag: int) -> None:
        """Mark a delivery as answered without an ack, for example with a reject."""
        self._answered.add(tag)

    def take(self) -> list[tuple[int, bool]]:
        """Return the acks to send as pairs of tag and ``multiple``. Each delivery is acknowledged only once."""
        acks = []
        last = 0
        while self._next in self._done or self._next in self._answered:
            if self._next in self._done:
                last = self._next
            self._done.discard(self._next)
            self._answered.discard(self._next)
            self._next += 1
        if last:
            acks.append((last, True))
        if self._done:
            acks.extend((tag, False) for tag in sorted(self._done))
            self._answered |= self._done
            self._done.clear()
        return acks

    def send(self, channel: Channel) -> None:
        """Acknowledge all deliveries that are done."""
        for tag, multiple in self.take():
            channel.basic_ack(tag, multiple=multiple)
