"""Publishes on one channel, and matches the broker's confirms and returns to the messages that have none yet."""

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
#: Message id, exchange and routing key: what a return says. The default exchange needs no id.
ReturnKey = tuple[str, str, str]


def _nothing(*_: object) -> None:
    pass


class ConfirmWindow(Generic[T]):
    """Publishes mandatory messages on one channel, and reports the outcome of each by a note of the publisher.

    ``on_outcome`` gets the note, and None for a confirm, PublishRefused for a negative one, and Unroutable for a
    return. ``on_round`` is called after all outcomes of one frame. A closed channel brings no outcome: see ``clear``.

    The broker counts publishes from 1 on each channel. It returns an unroutable message before it confirms that message
    (RabbitMQ: "Consumer Acknowledgements and Publisher Confirms"), and the return does not name the number. So all
    unconfirmed messages with the same id, exchange and routing key count as returned. If one of them was given up
    before, only the next confirm shows which of them was returned. A return by the default exchange means that the
    queue no longer exists, and RabbitMQ confirms the messages of a deleted queue. So all unconfirmed messages to this
    queue count as returned.
    """

    def __init__(
        self,
        on_outcome: Callable[[T, BrokerError | None], object],
        on_round: Callable[[], object] = _nothing,
        on_late: Callable[[ReturnKey, BrokerError | None], object] = _nothing,
    ) -> None:
        """``on_late`` gets the outcomes of messages that were given up, by their places."""
        self._on_outcome, self._on_round, self._on_late = on_outcome, on_round, on_late
        self._number = 0
        self._unconfirmed: dict[int, tuple[ReturnKey, T]] = {}
        #: Messages that were given up. There may be many, as long as a queue confirms nothing.
        self._late: dict[int, ReturnKey] = {}
        #: Returns of which the confirm shows whether the message was given up.
        self._returns: Counter[ReturnKey] = Counter()

    def open(self, channel: Channel, on_open: Callable[[], object]) -> None:
        """Use a new channel; ``on_open`` is called when messages can be published on it."""
        self.use(channel)
        channel.add_on_return_callback(self.on_return)
        channel.confirm_delivery(self.on_confirm, callback=lambda _: on_open())

    def use(self, channel: Channel) -> None:
        """Publish on a channel that has these callbacks."""
        self._channel = channel
        self._number = 0
        self.clear()

    def __len__(self) -> int:
        """Return the number of unconfirmed messages, without those that were given up."""
        return len(self._unconfirmed)

    def publish(self, note: T, place: ReturnKey, body: bytes, properties: Properties) -> None:
        """Publish a message; ``note`` is what the publisher gets with its outcome."""
        self._number += 1
        self._unconfirmed[self._number] = (place, note)
        _, exchange, routing_key = place
        self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=True)

    def give_up(self, is_meant: Callable[[T], bool]) -> list[T]:
        """Return the notes of messages whose outcome counts no longer.

        Their confirms and returns may still come, and are not taken for those of the same message published again.
        """
        found = [(number, *one) for number, one in self._unconfirmed.items() if is_meant(one[1])]
        for number, place, _ in found:
            del self._unconfirmed[number]
            self._late[number] = place
        return [note for _, _, note in found]

    def clear(self) -> list[T]:
        """Return the notes of all unconfirmed messages, because their channel is closed and no outcome will come."""
        notes = [note for _, note in self._unconfirmed.values()]
        self._unconfirmed.clear()
        self._late.clear()
        self._returns.clear()
        return notes

    def on_return(self, _: Channel, method: Any, properties: pika.BasicProperties, __: bytes) -> None:
        """The broker has returned a message."""
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
        """The broker has confirmed or refused one message, or all up to a number."""
        method = frame.method
        last = method.delivery_tag
        is_refused = isinstance(method, pika.spec.Basic.Nack)
        if self._late:
            # A message that waits for its confirm makes RabbitMQ confirm all later ones singly, so only a confirm of
            # several messages may cost a look at all that were given up.
            for number in [one for one in self._late if one <= last] if method.multiple else (last,):
                if (place := self._late.pop(number, None)) is not None:
                    self._on_late(place, self._error(place, is_refused=is_refused))
        # The numbers are in order, and most of them may be beyond the last one.
        for number in list(takewhile(last.__ge__, self._unconfirmed)) if method.multiple else (last,):
            if (found := self._unconfirmed.pop(number, None)) is not None:
                self._on_outcome(found[1], self._error(found[0], is_refused=is_refused))
        self._on_round()

    def _error(self, place: ReturnKey, *, is_refused: bool) -> BrokerError | None:
        """Return the meaning of a confirm or a refusal for a message at ``place``."""
        if is_refused:
            return _refusal(place)
        if self._returns and self._returns[place]:
            # RabbitMQ confirms a returned message at once, before an earlier one that waits for its queue.
            self._returns[place] -= 1
            self._returns += Counter()  # without those at zero
            return _unroutable(place)
        return None


class WindowPlaces:
    """Places that threads take, and one gives back: as ``threading.Semaphore``, but cheap while there are free ones."""

    def __init__(self, places: int, given: threading.Condition | None = None) -> None:
        self.places = places
        # An append or a pop is atomic, so no thread needs a lock unless a thread waits.
        self._free = deque([None] * places)
        self._given = threading.Condition() if given is None else given
        self._waiting = 0

    def acquire(self, timeout: float) -> bool:
        """Take a place, waiting at most ``timeout`` seconds for one; False where none became free."""
        if self._take():
            return True
        with self._given:
            self._waiting += 1
            try:
                # Checks again before the wait: ``wake`` checks for waiting threads after a place is released.
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
        """Give a place back. Waiting threads hear of it in ``wake``."""
        self._free.append(None)

    def wake(self) -> None:
        """Let those go on who wait, once for many places: woken for each of them, a thread would send one by one."""
        if self._waiting and self._free:
            with self._given:
                self._given.notify_all()


def _is_at(one: ReturnKey, returned: ReturnKey) -> bool:
    return one == returned or (not returned[1] and one[1:] == returned[1:])


def _unroutable(place: ReturnKey) -> Unroutable:
    _, exchange, routing_key = place
    if exchange:
        where = f"exchange {exchange!r}, routing key {routing_key!r}"
        return Unroutable(f"{where}: no queue is bound for it; add a binding, or an alternate_exchange")
    return Unroutable(f"queue {routing_key!r} does not exist")


def _refusal(place: ReturnKey) -> PublishRefused:
    _, exchange, routing_key = place
    if exchange:
        where = f"exchange {exchange!r}, routing key {routing_key!r}"
        return PublishRefused(f"{where}: the broker refused the event; a queue may be full")
    return PublishRefused(f"queue {routing_key!r} refused a message; it may be full")
