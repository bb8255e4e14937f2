"""Which acknowledgements to send: many deliveries with one ``basic.ack`` where they are contiguous."""

from __future__ import annotations

from pika.channel import Channel


class AckBatch:
    """Knows the delivery tags of one channel, which the broker counts from 1 (AMQP 0-9-1).

    An ack with ``multiple`` settles every tag up to its own, so it may only go as far as all are done. And it
    may not name a tag that is settled already: the broker answers that with 406 and closes the channel.
    """

    def __init__(self) -> None:
        self._next = 1
        self._done: set[int] = set()
        #: Acknowledged one by one, beyond a gap.
        self._settled: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many deliveries may be acknowledged and are not yet."""
        return len(self._done)

    def done(self, tag: int) -> None:
        """Note that a delivery may be acknowledged."""
        self._done.add(tag)

    def settled(self, tag: int) -> None:
        """Note that a delivery is settled by other means than an ack."""
        self._settled.add(tag)

    def take(self) -> list[tuple[int, bool]]:
        """The acks to send now, as pairs of tag and ``multiple``; each delivery is acknowledged once."""
        acks = []
        last = 0
        while self._next in self._done or self._next in self._settled:
            if self._next in self._done:
                last = self._next
            self._done.discard(self._next)
            self._settled.discard(self._next)
            self._next += 1
        if last:
            acks.append((last, True))
        if self._done:
            acks.extend((tag, False) for tag in sorted(self._done))
            self._settled |= self._done
            self._done.clear()
        return acks

    def send(self, channel: Channel) -> None:
        """Acknowledge all that may be."""
        for tag, multiple in self.take():
            channel.basic_ack(tag, multiple=multiple)
