"""Publishes on one channel, and matches the broker's confirms and returns to the messages that have none yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Generic, TypeVar

import pika
from pika.channel import Channel

from runner.amqp.wire.property_codec import Properties
from runner.errors import BrokerError, PublishRefused, Unroutable
from runner.headers import name_of

T = TypeVar("T")
#: The message id, exchange and routing key of a return. The default exchange needs no id.
ReturnKey = tuple[str, str, str]


def _nothing(*_: object) -> None:
    pass


class ConfirmWindow(Generic[T]):
    """A publisher of mandatory messages on one channel, which reports the outcome of each message.

    ``on_outcome`` gets the note of the message and its outcome. The outcome is None for a confirm, PublishRefused for a
    nack, and Unroutable for a return. ``on_round`` is called after all outcomes of one frame. Messages of a closed
    channel get no outcome: see ``clear``.

    The broker counts publishes from 1 on each channel. It returns an unroutable message before it confirms that message
    (RabbitMQ: "Consumer Acknowledgements and Publisher Confirms"), and the return does not contain the number. So all
    unconfirmed messages with the same id, exchange and routing key count as returned. A return through the default
    exchange means that the queue no longer exists, and RabbitMQ confirms the messages of a deleted queue. So all
    unconfirmed messages to this queue count as returned.
    """

    def __init__(
        self,
        on_outcome: Callable[[T, BrokerError | None], object],
        on_round: Callable[[], object] = _nothing,
        on_late: Callable[[T, BrokerError | None], object] = _nothing,
    ) -> None:
        """``on_late`` gets the outcomes of messages that were given up."""
        self._on_outcome, self._on_round, self._on_late = on_outcome, on_round, on_late
        self._number = 0
        self._unconfirmed: dict[int, tuple[ReturnKey, T]] = {}
        self._late: dict[int, tuple[ReturnKey, T]] = {}

    def open(self, channel: Channel, on_open: Callable[[], object]) -> None:
        """Use a new channel. ``on_open`` is called when the channel is ready for publishes."""
        self.use(channel)
        channel.add_on_return_callback(self.on_return)
        channel.confirm_delivery(self.on_confirm, callback=lambda _: on_open())

    def use(self, channel: Channel) -> None:
        """Use a channel that already has the callbacks ``on_return`` and ``on_confirm``."""
        self._channel = channel
        self._number = 0
        self.clear()

    def __len__(self) -> int:
        """Return the number of unconfirmed messages, except the messages that were given up."""
        return len(self._unconfirmed)

    def publish(self, note: T, place: ReturnKey, body: bytes, properties: Properties) -> None:
        """Publish a message. ``on_outcome`` gets ``note`` with the outcome of the message."""
        self._number += 1
        self._unconfirmed[self._number] = (place, note)
        _, exchange, routing_key = place
        self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)

    def give_up(self, is_meant: Callable[[T], bool]) -> list[T]:
        """Give up all messages for whose notes ``is_meant`` returns True, and return their notes.

        Their confirms and returns may still arrive. They do not count for another publish of the same message.
        """
        numbers = [number for number, (_, note) in self._unconfirmed.items() if is_meant(note)]
        for number in numbers:
            self._late[number] = self._unconfirmed.pop(number)
        return [self._late[number][1] for number in numbers]

    def clear(self) -> list[T]:
        """Remove all unconfirmed messages of a closed channel, which get no outcome, and return their notes."""
        notes = [note for _, note in self._unconfirmed.values()]
        self._unconfirmed.clear()
        self._late.clear()
        return notes

    def on_return(self, _: Channel, method: Any, properties: pika.BasicProperties, __: bytes) -> None:
        """Handle the return of a message."""
        identity, exchange, routing_key = name_of(properties.message_id), method.exchange, method.routing_key
        error = Unroutable(
            f"exchange {exchange!r}, routing key {routing_key!r}: no queue is bound for it; add a binding, or an"
            " alternate_exchange"
            if exchange
            else f"queue {routing_key!r} does not exist"
        )

        place = (identity, exchange, routing_key)
        for number, (late, note) in self._late.items():
            if late == place:
                del self._late[number]
                self._on_late(note, error)
                return
        returned = [(number, note) for number, (other, note) in self._unconfirmed.items() if _is_at(other, place)]
        for number, note in returned:
            if self._unconfirmed.pop(number, None) is not None:
                self._on_outcome(note, error)
        self._on_round()

    def on_confirm(self, frame: Any) -> None:
        """Handle a confirm or a nack of one message, or of all messages up to a number."""
        method = frame.method
        last = method.delivery_tag
        is_refused = isinstance(method, pika.spec.Basic.Nack)
        # The numbers are sorted, and most of them may be larger than the confirmed number.
        for number in list(takewhile(last.__ge__, self._unconfirmed)) if method.multiple else (last,):
            if (found := self._unconfirmed.pop(number, None)) is not None:
                self._on_outcome(found[1], _refusal(found[0]) if is_refused else None)
        if self._late:
            for number in [one for one in self._late if one == last or (method.multiple and one < last)]:
                place, note = self._late.pop(number)
                self._on_late(note, _refusal(place) if is_refused else None)
        self._on_round()


class WindowPlaces:
    """A semaphore that costs little while places are free. Threads acquire places, and one thread releases them."""

    def __init__(self, places: int, given: threading.Condition | None = None) -> None:
        self.places = places
        # An append or a pop is atomic, so no lock is needed unless a thread waits.
        self._free = deque([None] * places)
        self._given = threading.Condition() if given is None else given
        self._waiting = 0

    def acquire(self, timeout: float) -> bool:
        """Acquire a place, waiting at most ``timeout`` seconds; return False if no place became free."""
        if self._take():
            return True
        with self._given:
            self._waiting += 1
            try:
                # ``wait_for`` first tries again, because ``wake`` may have checked before this thread was counted.
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
        """Release a place. Waiting threads are woken only by ``wake``."""
        self._free.append(None)

    def wake(self) -> None:
        """Wake all waiting threads, once for many places. If woken for each place, a thread would send one by one."""
        if self._waiting and self._free:
            with self._given:
                self._given.notify_all()


def _is_at(one: ReturnKey, returned: ReturnKey) -> bool:
    return one == returned or (not returned[1] and one[1:] == returned[1:])


def _refusal(place: ReturnKey) -> PublishRefused:
    _, exchange, routing_key = place
    if exchange:
        where = f"exchange {exchange!r}, routing key {routing_key!r}"
        return PublishRefused(f"{where}: the broker refused the event; a queue may be full")
    return PublishRefused(f"queue {routing_key!r} refused a message; it may be full")
