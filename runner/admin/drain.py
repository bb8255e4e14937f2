"""Move all messages of one queue into another: each is acknowledged only after the broker confirmed its copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.acks import AckLedger
from runner.amqp.properties import moved_properties
from runner.amqp.reply_code import CloseKind, close_of
from runner.amqp.session import Session
from runner.errors import BrokerAway, PublishRefused, RunnerError
from runner.headers import name_of

#: How many messages may be on their way at once.
WINDOW = 500
#: How many more than twice the messages that it held a source may get while they are moved.
HEADSTART = 1000
#: How many moved messages are acknowledged with one ``basic.ack``.
ACK_BATCH = 100
#: How often in a row a queue must call itself empty. The channel answers before it passes on what the queue had sent
#: it by then; so only when nothing came until the next answer is nothing on its way.
SURE = 2
#: Seconds without any progress after which it is given up.
STALLED = 60.0


@dataclass(frozen=True)
class QueueCounts:
    """What a queue holds at this moment, by the queue itself and not by statistics."""

    messages: int
    consumers: int


def counts_of(url: str, queue: str) -> QueueCounts:
    """Ask a queue. Raises RunnerError if it does not exist, BrokerRefused, and BrokerAway."""
    found: list[QueueCounts] = []

    def ask(channel: Channel) -> None:
        def answered(frame: Any) -> None:
            found.append(QueueCounts(frame.method.message_count, frame.method.consumer_count))
            session.finish()

        channel.add_on_close_callback(lambda _, error: session.fail(close_of(error).error(f"queue {queue!r}")))
        channel.queue_declare(queue, passive=True, callback=answered)

    session = Session(url, "runner counts", ask)
    session.run(STALLED)
    return found[0]


class Drain:
    """Moves what ``source`` holds into ``target``, in order, until it is empty.

    Interrupted at any point, the messages at hand are still in ``source``; some of their copies may be in ``target``
    already. When such a message is moved after all, its copy says in a header that it was delivered before.
    """

    def __init__(
        self,
        url: str,
        source: str,
        target: str,
        on_progress: Callable[[int], None] = lambda _: None,
        *,
        is_aside: bool = False,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """``is_aside`` is for a target in which messages only wait: they do not expire there.

        ``names`` are the new names of queues that are renamed, by their old names: headers name the new queues.
        """
        self._is_aside, self._names = is_aside, names or {}
        self._source, self._target, self._on_progress = source, target, on_progress
        self._session = Session(url, "runner drain", self._opened)
        self._acks = AckLedger()
        #: Delivery tags whose copies are not confirmed yet; the broker counts publishes from 1 in the same order.
        self._unconfirmed: dict[int, int] = {}
        self._published = 0
        self._delete = False
        self._enough: int | None = None
        self._asked = False
        self._zeros = 0
        self._consumer_tag: str | None = None
        self._progress_before = -1
        #: Why no further message is moved; it fails once all copies are confirmed or refused.
        self._problem: RunnerError | None = None
        #: How many messages were moved, and how many came in the moment of the deletion and went with the queue.
        self.moved = self.lost = 0

    def run(self, *, delete: bool = False, is_classic: bool = False, enough: int | None = None) -> int:
        """Move all; with ``delete``, delete the empty source, which a classic queue only lets be done when it is.

        ``enough`` is for a source that still gets messages: it ends once that many are moved and none is at hand, or
        after twice as many and 1,000. The few that come just then stay, and count as redelivered. Returns how many were
        moved.

        Raises BrokerAway, and PublishRefused where the target does not take a message.
        """
        self._delete, self._is_classic, self._enough = delete, is_classic, enough
        self._session.run()
        return self.moved

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(lambda *_: self._fail(f"queue {self._target!r} is gone"))
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._consume())

    def _consume(self) -> None:
        self._channel.basic_qos(prefetch_count=WINDOW)
        self._subscribe()
        self._session.loop.call_later(STALLED, self._look)

    def _subscribe(self) -> None:
        self._zeros = 0
        self._consumer_tag = self._channel.basic_consume(
            self._source, self._on_delivery, callback=lambda _: self._ask()
        )

    def _look(self) -> None:
        if self._session.is_finished:
            return
        if self.moved == self._progress_before:
            # What is safe must not come back: it would be there twice.
            self._acknowledge()
            self._fail(f"no progress within {STALLED:g} s; the broker is blocked, or another consumer holds messages")
        self._progress_before = self.moved
        self._session.loop.call_later(STALLED, self._look)

    def _on_delivery(self, channel: Channel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._zeros = 0
        is_too_much = self._enough is not None and self._published >= 2 * self._enough + HEADSTART
        if is_too_much or self._problem is not None or self._session.is_finished:
            return  # the broker puts it back when the channel closes
        try:
            copy = moved_properties(method, properties, is_aside=self._is_aside, names=self._names)
        except ValueError as error:
            # The message stays where it is, and so do those behind it.
            why = f"message {name_of(properties.message_id) or 'without id'}: {error}; remove it from the queue"
            self._break_off(RunnerError(f"{self._words}: {why}"))
            return
        self._published += 1
        self._unconfirmed[self._published] = method.delivery_tag
        channel.basic_publish("", self._target, body, copy, mandatory=True)

    def _on_confirm(self, frame: Any) -> None:
        if self._session.is_finished:
            return
        method = frame.method
        numbers = [method.delivery_tag]
        if method.multiple:
            numbers = [number for number in self._unconfirmed if number <= method.delivery_tag]
        tags = [self._unconfirmed.pop(number) for number in numbers]
        if isinstance(method, pika.spec.Basic.Nack):
            self._break_off(PublishRefused(f"queue {self._target!r}: the broker refused a message; it may be full"))
            return
        for tag in tags:
            self._acks.done(tag)
        self.moved += len(tags)
        self._on_progress(self.moved)
        if not self._unconfirmed or self._acks.waiting >= ACK_BATCH:
            self._acknowledge()
        if self._unconfirmed:
            return
        if self._problem is not None:
            self._session.fail(self._problem)
        elif self._enough is not None and self.moved >= self._enough:
            self._session.finish()
        else:
            self._ask()

    def _acknowledge(self) -> None:
        for tag, multiple in self._acks.take():
            self._channel.basic_ack(tag, multiple=multiple)

    def _break_off(self, error: RunnerError) -> None:
        """Move no further message, and fail when the copies that are on their way are confirmed or refused."""
        self._problem = self._problem or error
        if not self._unconfirmed:
            self._acknowledge()
            self._session.fail(self._problem)

    def _ask(self) -> None:
        """Nothing is at hand: ask whether there is more."""
        if not self._asked and not self._session.is_finished:
            self._asked = True
            self._channel.queue_declare(self._source, passive=True, callback=self._counted)

    def _counted(self, frame: Any) -> None:
        self._asked = False
        self._zeros = 0 if frame.method.message_count else self._zeros + 1
        if self._unconfirmed or self._session.is_finished:
            return  # meanwhile some came, whose confirms ask again
        if self._zeros == 0 and self._consumer_tag is None:
            self._subscribe()
        elif self._zeros == 0:
            self._session.loop.call_later(0.05, self._ask)
        elif self._zeros < SURE:
            self._ask()
        elif not self._delete:
            self._session.finish()
        elif self._consumer_tag is not None:
            # What now comes to it stays in it, where the deletion meets it.
            tag, self._consumer_tag, self._zeros = self._consumer_tag, None, 0
            self._channel.basic_cancel(tag, callback=lambda _: self._ask())
        elif frame.method.consumer_count:
            self._fail("somebody else reads it; stop who does, and try again")
        else:
            # On condition that it is empty, which RabbitMQ does not know of quorum queues.
            self._channel.queue_delete(self._source, if_empty=self._is_classic, callback=self._deleted)

    def _deleted(self, frame: Any) -> None:
        self.lost = frame.method.message_count
        if self.lost:
            self._fail(f"{self.lost} messages came to {self._source!r} in the moment of its deletion and went with it")
        else:
            self._session.finish()

    def _channel_closed(self, _: Channel, error: Exception) -> None:
        close = close_of(error)
        if close.verdict is CloseKind.PASSES:
            self._session.fail(BrokerAway(f"{self._words}: {close.reason}"))
        else:
            self._fail(close.reason)  # such as a source that is no longer empty; the same command continues

    @property
    def _words(self) -> str:
        return f"moving {self._source!r} to {self._target!r}"

    def _fail(self, why: str) -> None:
        self._session.fail(RunnerError(f"{self._words}: {why}"))
