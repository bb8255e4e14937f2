"""Publish a number of events, and wait until the broker has routed and confirmed every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.properties import encode
from runner.amqp.reply_code import close_of
from runner.amqp.session import Session
from runner.errors import BrokerAway, PublishRefused, Unroutable
from runner.messages import Event

#: How many may be on their way at once.
WINDOW = 500
#: Seconds without any confirm after which it is given up.
STALLED = 30.0
#: Seconds between two looks at the clock.
BEAT = 0.5


def publish_all(url: str, events: Iterable[Event], on_sent: Callable[[int], None]) -> None:
    """Publish ``events`` in their order; ``on_sent`` is told each time how many may have come there so far.

    Raises Unroutable where a queue is not there, PublishRefused where the broker takes one not, BrokerAway, and what
    ``events`` itself raises; some may be published then.
    """
    _Batch(url, events, on_sent).run()


class _Batch:
    def __init__(self, url: str, events: Iterable[Event], on_sent: Callable[[int], None]) -> None:
        self._events, self._on_sent = iter(events), on_sent
        self._session = Session(url, "runner notes", self._opened)
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._heard = time.monotonic()
        self._is_all = False

    def run(self) -> None:
        self._session.run()

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._begin())

    def _begin(self) -> None:
        self._session.loop.call_later(BEAT, self._beat)
        self._pump()

    def _pump(self) -> None:
        while not self._is_all and len(self._unconfirmed) < WINDOW and self._is_going:
            try:
                event = next(self._events, None)
                if event is None:
                    self._is_all = True
                    break
                one = encode(event)
            except Exception as error:  # noqa: BLE001 - pika would take it for the end of the connection
                self._session.fail(error)
                return
            self._sent += 1
            # Before it goes, so that whoever breaks this off knows of each that may have gone.
            self._on_sent(self._sent)
            self._unconfirmed.add(self._sent)
            self._channel.basic_publish(
                event.exchange or "", event.routing_key or "", one.body, one.properties, mandatory=True
            )
        if self._is_all and not self._unconfirmed:
            self._session.finish()

    @property
    def _is_going(self) -> bool:
        return not self._session.is_finished and self._channel.is_open

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._session.fail(PublishRefused("the broker takes no more; a queue may be full"))
            return
        # The broker counts publishes from 1, and may confirm one before an earlier one.
        last = method.delivery_tag
        self._unconfirmed -= {one for one in self._unconfirmed if one <= last} if method.multiple else {last}
        self._heard = time.monotonic()
        self._pump()

    def _returned(self, _: Channel, method: Any, __: Any, ___: bytes) -> None:
        # The queue is gone, and takes none of those that are on their way.
        self._on_sent(self._sent - len(self._unconfirmed))
        self._session.fail(Unroutable(f"queue {method.routing_key!r}: it is not there"))

    def _closed(self, _: Channel, error: Exception) -> None:
        self._session.fail(close_of(error).error("publishing"))

    def _beat(self) -> None:
        if not self._is_going:
            return
        if time.monotonic() - self._heard > STALLED:
            self._session.fail(BrokerAway(f"nothing is confirmed for {STALLED:g} s"))
            return
        self._session.loop.call_later(BEAT, self._beat)
