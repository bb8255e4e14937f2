"""Events that failed while the broker blocked their publisher. Late returns of them do not affect later events."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from runner.amqp.properties import encode
from runner.amqp.publisher import Publisher
from runner.errors import BrokerBlocked
from runner.messages import Event

EVENT = Event("paid", {}, exchange="payments", routing_key="paid", id="e1")


class Io:
    """An I/O thread that calls at once, and never later."""

    clock = staticmethod(time.monotonic)
    random = random.Random()

    def add(self, link: object) -> None:
        pass

    def at_round_end(self, callback: object) -> None:
        pass

    def __init__(self) -> None:
        self.loop = self

    def call(self, callback: Any) -> None:
        callback()

    def call_later(self, delay: float, callback: Any) -> None:
        pass


def test_a_late_return_after_a_block_does_not_concern_the_same_event_published_again() -> None:
    io: Any = Io()
    publisher = Publisher(io, ["amqp://broker"], "test", lambda _: None, lambda _: None)
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    publisher._window.use(channel)
    publisher._use(channel)
    first = publisher.publish(EVENT)
    publisher._on_blocked(None, SimpleNamespace(method=SimpleNamespace(reason="low on memory")))
    with pytest.raises(BrokerBlocked):
        first.result(0)
    returned = pika.spec.Basic.Return(312, "NO_ROUTE", "payments", "paid")
    publisher._window.on_return(channel, returned, pika.BasicProperties(message_id="e1"), b"")
    publisher._window.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(1, False)))
    publisher._on_unblocked()
    second = publisher.publish(EVENT)
    publisher._window.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(2, False)))
    assert second.result(0) is None, "a queue was bound in the meantime, and the broker did not return the message"


def test_a_callback_that_fails_keeps_no_other_event_from_its_report() -> None:
    io: Any = Io()
    publisher = Publisher(io, ["amqp://broker"], "test", lambda _: None, lambda _: None)
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    publisher._window.use(channel)
    publisher._use(channel)

    def fail(*_: object) -> None:
        raise OSError("no more threads")

    results: list[object] = []
    publisher.send(encode(EVENT), fail)
    publisher.send(encode(EVENT), lambda _, error: results.append(error))
    publisher._window.on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(2, True)))
    assert results == [None]
