"""Injection of duplicate messages into a queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pika
from pika.channel import Channel

from runner.amqp.confirms_and_returns import ConfirmWindow
from runner.amqp.properties import PROPERTIES, copied_properties
from runner.amqp.reply_code import close_of
from runner.amqp.session import Session
from runner.errors import BrokerBlocked, BrokerError, RunnerError
from runner.headers import copy_headers
from runner.topology.model import Binding

#: Seconds within which the broker must open a channel, and then confirm the copies.
PATIENCE = 20.0


class Duplicate:
    """A publisher that copies each message that is routed to a queue.

    An exclusive queue with the same bindings receives the messages to copy. The broker deletes the exclusive queue when
    the connection closes.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        bindings: Sequence[Binding],
        count: int,
        on_begin: Callable[[], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """``on_begin`` is called when copying starts. Copying stops when ``is_wanted`` returns False."""
        self._queue = queue
        self._session = Session(url, "runner fault", self._opened)
        self._unconfirmed: ConfirmWindow[None] = ConfirmWindow(self._on_outcome, self._settle)
        #: The message ids of the copies, in order.
        self.ids: list[str] = []
        self._bindings, self._count = bindings, count
        self._on_begin, self._is_wanted = on_begin, is_wanted
        self._is_over = self._is_untapped = False

    def run(self, seconds: float) -> list[str]:
        """Copy up to ``count`` messages for at most ``seconds``. Return the ids of the copies.

        Raises BrokerUnreachable, BrokerBlocked, PublishRefused and Unroutable. Raises BrokerRefused if the user lacks
        the permission to declare or bind a queue.
        """
        self._seconds = seconds
        self._session.run(seconds + 2 * PATIENCE)
        return self.ids

    def _opened(self, channel: Channel) -> None:
        where = f"queue {self._queue!r}"
        channel.add_on_close_callback(lambda _, error: self._session.fail(close_of(error).error(where)))
        self._unconfirmed.open(channel, lambda: self._begin(channel))

    def _begin(self, channel: Channel) -> None:
        channel.queue_declare("", exclusive=True, auto_delete=True, callback=lambda frame: self._bind(channel, frame))

    def _bind(self, channel: Channel, frame: Any) -> None:
        name = frame.method.queue
        self._tap = channel, name
        consume = partial(channel.basic_consume, name, self._on_delivery, auto_ack=True)
        self._for_bindings(channel.queue_bind, lambda: consume(callback=lambda _: self._go()))

    def _for_bindings(self, change: Callable[..., object], then: Callable[[], object]) -> None:
        """Bind or unbind the exclusive queue with each binding in turn, and then call ``then``."""
        left = list(self._bindings)

        def following(_: Any = None) -> None:
            if left:
                one = left.pop()
                change(self._tap[1], one.source, one.routing_key, dict(one.arguments), callback=following)
            else:
                then()

        following()

    def _go(self) -> None:
        self._deadline = time.monotonic() + self._seconds
        self._on_begin()
        self._look()

    def _look(self) -> None:
        if self._session.is_finished or self._is_over:
            return
        if time.monotonic() >= self._deadline or not self._is_wanted():
            self._end()
        else:
            self._session.loop.call_later(0.1, self._look)

    def _end(self) -> None:
        self._is_over = True
        self._session.loop.call_later(PATIENCE, self._late)
        # RabbitMQ rejects a message that is on its way to a deleted queue, and the sender of an order would get a 503.
        # So the bindings are removed first. The reply to the passive declaration shows that all earlier messages have
        # arrived.
        channel, name = self._tap

        def untapped(_: Any) -> None:
            self._is_untapped = True
            self._settle()

        self._for_bindings(channel.queue_unbind, lambda: channel.queue_declare(name, passive=True, callback=untapped))

    def _on_outcome(self, _: None, error: BrokerError | None) -> None:
        if error is not None:
            self._session.fail(error)

    def _settle(self) -> None:
        if self._is_untapped and not self._unconfirmed:
            self._session.finish()

    def _late(self) -> None:
        self._session.fail(BrokerBlocked(f"queue {self._queue!r}: no confirm from the broker for {PATIENCE:g} s"))

    def _on_delivery(self, _: Channel, __: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if self._is_over or self._session.is_finished:
            return
        known = {name: getattr(properties, name) for name in PROPERTIES}
        try:
            headers = copy_headers(properties.headers or {})
            copy = copied_properties(known, headers, properties.remainder, keep_expiration=True)
        except ValueError as error:
            self._session.fail(RunnerError(f"queue {self._queue!r}: {error}"))
            return
        self._unconfirmed.publish(None, ("", "", self._queue), body, copy)
        self.ids.append(str(properties.message_id or ""))
        if len(self.ids) == self._count:
            self._end()
