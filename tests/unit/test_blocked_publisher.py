"""What the broker still says of events that failed as it blocked their publisher is not taken for what comes after."""

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
    """Calls at once, and never later."""

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


def test_a_return_that_comes_after_the_publisher_was_blocked_says_nothing_of_the_same_event_sent_again() -> None:
    io: Any = Io()
    publisher = Publisher(io, ["amqp://broker"], "test", lambda _: None, lambda _: None)
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    publisher._use(channel)
    first = publisher.publish(EVENT)
    publisher._on_blocked(None, SimpleNamespace(method=SimpleNamespace(reason="low on memory")))
    with pytest.raises(BrokerBlocked):
        first.result(0)
    returned = pika.spec.Basic.Return(312, "NO_ROUTE", "payments", "paid")
    publisher._verdicts.on_return(channel, returned, pika.BasicProperties(message_id="e1"), b"")
    publisher._on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(1, False)))
    publisher._on_unblocked()
    second = publisher.publish(EVENT)
    publisher._on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(2, False)))
    assert second.result(0) is None, "a queue was bound meanwhile, and the broker did not return it"


def test_a_callback_that_fails_keeps_no_other_event_from_being_told() -> None:
    io: Any = Io()
    publisher = Publisher(io, ["amqp://broker"], "test", lambda _: None, lambda _: None)
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    publisher._use(channel)

    def fail(*_: object) -> None:
        raise OSError("no more threads")

    told: list[object] = []
    publisher.send(encode(EVENT), fail)
    publisher.send(encode(EVENT), lambda _, error: told.append(error))
    publisher._on_confirm(SimpleNamespace(method=pika.spec.Basic.Ack(2, True)))
    assert told == [None]
