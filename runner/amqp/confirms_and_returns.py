"""Publishing on one channel, and matching the broker's confirms and returns to unconfirmed messages."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Generic, TypeVar

import pika
from pika.channel import Channel

from runner.amqp.wire.property_codec import Properties
from runner.errors import BrokerError, PublishRefused, Unroutable
from runner.headers import name_of

T = TypeVar("T")
#: The message id, exchange and routing key of a returned message. For the default exchange, the id is not needed.
ReturnKey = tuple[str, str, str]


def _nothing(*_: object) -> None:
    pass


class ConfirmWindow(Generic[T]):
    """A window of unconfirmed mandatory messages on one channel, which reports the outcome of each message.

    The publisher passes a note with each message. ``on_outcome`` gets the note and an outcome, which is None for a
    confirm, PublishRefused for a negative confirm, or Unroutable for a return. ``on_round`` is called after the last
    outcome of each frame. When a channel closes, its messages get no outcome (see ``clear``).

    The broker numbers the published messages of each channel from 1. The broker returns an unroutable message before
    confirming it (RabbitMQ: "Consumer Acknowledgements and Publisher Confirms"). A return does not contain the
    message's number, so all unconfirmed messages with the same id, exchange and routing key count as returned. If
    ``give_up`` was called for one of these messages, only the next confirm shows which message was returned.

    A return from the default exchange means that the queue no longer exists. RabbitMQ confirms the messages of a
    deleted queue, so all unconfirmed messages to this queue count as returned.
    """

    def __init__(
        self,
        on_outcome: Callable[[T, BrokerError | None], object],
        on_round: Callable[[], object] = _nothing,
        on_late: Callable[[ReturnKey, BrokerError | None], object] = _nothing,
    ) -> None:
        """``on_late`` gets the id, exchange, routing key and outcome of each message that ``give_up`` has removed."""
        self._on_outcome, self._on_round, self._on_late = on_outcome, on_round, on_late
        self._number = 0
        self._unconfirmed: dict[int, tuple[ReturnKey, T]] = {}
        #: Messages that ``give_up`` has removed from the window. Many can accumulate while a queue confirms no
        #: messages.
        self._late: dict[int, ReturnKey] = {}
        #: Returns that may belong to a message that ``give_up`` has removed. The next confirm shows which message was
        #: returned.
        self._returns: Counter[ReturnKey] = Counter()

    def open(self, channel: Channel, on_open: Callable[[], object]) -> None:
        """Start using a new channel. ``on_open`` is called when messages can be published on the channel."""
        self.use(channel)
        channel.add_on_return_callback(self.on_return)
        channel.confirm_delivery(self.on_confirm, callback=lambda _: on_open())

    def use(self, channel: Channel) -> None:
        """Start using a channel whose callbacks are already set to ``on_return`` and ``on_confirm``."""
        self._channel = channel
        self._number = 0
        self.clear()

    def __len__(self) -> int:
        """Return the number of unconfirmed messages, excluding messages that ``give_up`` has removed."""
        return len(self._unconfirmed)

    def publish(self, note: T, place: ReturnKey, body: bytes, properties: Properties) -> None:
        """Publish a message. ``on_outcome`` gets ``note`` together with the outcome."""
        self._number += 1
        self._unconfirmed[self._number] = (place, note)
        _, exchange, routing_key = place
        self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)

    def give_up(self, is_meant: Callable[[T], bool]) -> list[T]:
        """Stop waiting for the confirms of all messages whose notes match ``is_meant``, and return these notes.

        If the same message is published again, a late confirm or return is not mistaken for the new outcome.
        """
        found = [(number, *one) for number, one in self._unconfirmed.items() if is_meant(one[1])]
        for number, place, _ in found:
            del self._unconfirmed[number]
            self._late[number] = place
        return [note for _, _, note in found]

    def clear(self) -> list[T]:
        """Forget all unconfirmed messages after the channel has closed, and return their notes."""
        notes = [note for _, note in self._unconfirmed.values()]
        self._unconfirmed.clear()
        self._late.clear()
        self._returns.clear()
        return notes

    def on_return(self, _: Channel, method: Any, properties: pika.BasicProperties, __: bytes) -> None:
        """Report the outcome of a message that the broker has returned."""
        place = (name_of(properties.message_id), method.exchange, method.routing_key)
        late = [number for number, other in self._late.items() if _is_at(other, place)]
        if late and method.exchange:
            self._returns[place] += 1
            return
        for number in late:
            self._on_late(self._late.pop(number), _unroutable(place))
        returned = [(number, note) for number, (other, note) in self._unconfirmed.items() if _is_at(other, place)]
        for number, note in returned:
            if self._unconfirmed.pop(number, None) is not None:
                self._on_outcome(note, _unroutable(place))
        self._on_round()

    def on_confirm(self, frame: Any) -> None:
        """Report the outcomes of all messages that a frame confirms or refuses."""
        method = frame.method
        last = method.delivery_tag
        is_refused = isinstance(method, pika.spec.Basic.Nack)
        if self._late:
            # While one message is waiting, RabbitMQ confirms all later messages one by one. Therefore, a single confirm
            # must not cause a slow search through ``_late``.
            for number in [one for one in self._late if one <= last] if method.multiple else (last,):
                if (place := self._late.pop(number, None)) is not None:
                    self._on_late(place, self._error(place, is_refused=is_refused))
        # The numbers are in ascending order, and most of them may be above ``last``.
        for number in list(takewhile(last.__ge__, self._unconfirmed)) if method.multiple else (last,):
            if (found := self._unconfirmed.pop(number, None)) is not None:
                self._on_outcome(found[1], self._error(found[0], is_refused=is_refused))
        self._on_round()

    def _error(self, place: ReturnKey, *, is_refused: bool) -> BrokerError | None:
        """Return the error for a message that was confirmed or refused, or None if the broker accepted the message."""
        if is_refused:
            return _refusal(place)
        if self._returns and self._returns[place]:
            # RabbitMQ confirms a returned message immediately, even before an earlier message that still waits for its
            # queue.
            self._returns[place] -= 1
            self._returns += Counter()  # removes zero counts
            return _unroutable(place)
        return None


class WindowPlaces:
    """A semaphore for the places in a window. Many threads acquire places, but only one thread releases them."""

    def __init__(self, places: int, given: threading.Condition | None = None) -> None:
        self.places = places
        # ``append`` and ``pop`` are atomic, so the lock is needed only while a thread is waiting.
        self._free = deque([None] * places)
        self._given = threading.Condition() if given is None else given
        self._waiting = 0

    def acquire(self, timeout: float) -> bool:
        """Acquire a place within ``timeout`` seconds. Return False if no place becomes free in that time."""
        if self._take():
            return True
        with self._given:
            self._waiting += 1
            try:
                # ``wait_for`` first checks again for a free place, because a place may have been released before
                # ``_waiting`` was set.
                return self._given.wait_for(self._take, timeout)
            finally:
                self._waiting -= 1

    def _take(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Release a place. Threads that are waiting for a place continue only after ``wake`` is called."""
        self._free.append(None)

    def wake(self) -> None:
        """Wake the waiting threads.

        This method is called once after many releases, so that each thread can send many messages together.
        """
        if self._waiting and self._free:
            with self._given:
                self._given.notify_all()


def _is_at(one: ReturnKey, returned: ReturnKey) -> bool:
    return one == returned or (not returned[1] and one[1:] == returned[1:])


def _unroutable(place: ReturnKey) -> Unroutable:
    _, exchange, routing_key = place
    if exchange:
        where = f"exchange {exchange!r}, routing key {routing_key!r}"
        return Unroutable(f"{where}: no binding matches; add a binding or an alternate_exchange")
    return Unroutable(f"queue {routing_key!r} does not exist")


def _refusal(place: ReturnKey) -> PublishRefused:
    _, exchange, routing_key = place
    if exchange:
        where = f"exchange {exchange!r}, routing key {routing_key!r}"
        return PublishRefused(f"{where}: the broker refused the event; a queue may be full")
    return PublishRefused(f"queue {routing_key!r} refused a message; the queue may be full")
