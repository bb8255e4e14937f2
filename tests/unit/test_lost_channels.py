"""Reactions of consumers and publishers to a lost channel: wait, declare the topology, or exit permanently."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any

import pytest

from runner.amqp.consumer import SUBSCRIBE_TIMEOUT, Consumer
from runner.amqp.link import MOST_LOSSES
from runner.amqp.properties import encode
from runner.amqp.publisher import Publisher
from runner.amqp.reply_code import Close, coded
from runner.errors import BrokerError, BrokerUnreachable, EventTooLarge, PublishRefused
from runner.messages import Event
from runner.worker.lifecycle import Worker

DENIALS = [
    (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'"),
    (403, "ACCESS_REFUSED - operation not permitted on the default exchange"),
    (402, "INVALID_PATH"),
    (530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'"),
    (530, "NOT_ALLOWED - access to vhost '/' refused for user 'u'"),
]
PERMANENT = [
    *DENIALS,
    (406, "PRECONDITION_FAILED - unknown delivery tag 5"),
    (501, "FRAME_ERROR - type 2, all octets"),
    (503, "COMMAND_INVALID - unimplemented method"),
    (504, "CHANNEL_ERROR - expected 'channel.open'"),
    (540, "NOT_IMPLEMENTED - active=false"),
]
PASSING = [
    (320, "CONNECTION_FORCED - shutdown"),
    (541, "INTERNAL_ERROR"),
    (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 2000 ms."),
    (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"),
    (0, "connection reset by peer"),
]
MISSING = (404, "NOT_FOUND - no queue 'q' in vhost '/'")


class Io:
    """An I/O thread that calls at once, and never later."""

    clock = staticmethod(time.monotonic)
    random = random.Random()

    def __init__(self) -> None:
        self.loop = self

    def add(self, link: object) -> None:
        pass

    def at_round_end(self, callback: object) -> None:
        pass

    def call(self, callback: Any) -> None:
        callback()

    def call_later(self, delay: float, callback: Any) -> None:
        pass


class Channel:
    """A channel on which the broker responds when the test says so."""

    def __init__(self) -> None:
        self.is_open = True
        self.consumer_tags: list[str] = []
        self.answers: list[Any] = []
        self.connection = SimpleNamespace(server_properties={"version": "4.3.0"})

    def add_on_cancel_callback(self, callback: Any) -> None:
        self.cancelled = callback

    def basic_qos(self, prefetch_count: int, callback: Any) -> None:
        callback(None)

    def basic_consume(self, queue: str, receive: Any, callback: Any) -> str:
        tag = f"{queue}.{id(self)}"
        self.consumer_tags.append(tag)
        self.answers.append(lambda: callback(SimpleNamespace(method=SimpleNamespace(consumer_tag=tag))))
        return tag

    def queue_declare(self, queue: str, passive: bool, callback: Any) -> None:
        self.answers.append(lambda: callback(None))

    def cancel(self, tag: str) -> None:
        """Cancel a consumer as pika does: the tag is removed before the callback."""
        self.consumer_tags.remove(tag)
        self.cancelled(SimpleNamespace(method=SimpleNamespace(consumer_tag=tag)))


class Calls(list[str]):
    """The calls of a consumer or publisher, in their order."""

    def of(self, name: str) -> Any:
        return lambda *_: self.append(name)


def consumer(calls: Calls, *queues: str) -> Consumer:
    io: Any = Io()
    return Consumer(
        io, ["amqp://broker"], "test", queues or ("q",), 1, calls.of("delivery"), lambda _: None, calls.of("missing"),
        on_refused=calls.of("refused"), on_timeout=calls.of("timeout"),
    )  # fmt: skip


def subscribed(one: Consumer) -> Channel:
    channel: Any = Channel()
    one._opened(channel)
    for answer in channel.answers:
        answer()
    channel.answers.clear()
    return channel  # type: ignore[no-any-return]


def publisher(calls: Calls) -> Publisher:
    io: Any = Io()
    one = Publisher(io, ["amqp://broker"], "test", lambda _: None, calls.of("missing"), on_refused=calls.of("refused"))
    channel: Any = SimpleNamespace(basic_publish=lambda *_, **__: None)
    one._window.use(channel)
    one._use(channel)
    return one


@pytest.mark.parametrize(("code", "text"), DENIALS)
def test_a_denial_stops_a_consumer_at_once_only_before_its_first_subscription(code: int, text: str) -> None:
    calls = Calls()
    one = consumer(calls)
    one._opened(Channel())
    one._lost("denied", coded(code, text))
    assert calls == ["refused"]
    again = Calls()
    one = consumer(again)
    subscribed(one)
    for _ in range(MOST_LOSSES):
        one._lost("denied", coded(code, text))
        one._opened(Channel())
    assert again == []
    one._link._losses = MOST_LOSSES
    one._lost("denied", coded(code, text))
    assert again == ["refused"]


@pytest.mark.parametrize(("code", "text"), PERMANENT)
def test_a_permanent_error_stops_a_consumer_and_a_publisher_permanently_after_many_losses(code: int, text: str) -> None:
    for make in (consumer, publisher):
        calls = Calls()
        one: Any = make(calls)
        if isinstance(one, Consumer):
            subscribed(one)
        one._lost("closed", coded(code, text))
        assert calls == []
        one._link._losses = MOST_LOSSES
        one._lost("closed", coded(code, text))
        assert calls == ["refused"]


@pytest.mark.parametrize(("code", "text"), [*PASSING, MISSING])
def test_a_temporary_error_makes_another_process_try_again_after_many_losses(code: int, text: str) -> None:
    close = coded(code, text) if code else Close(0, text, coded(320, "").verdict)
    for make in (consumer, publisher):
        calls = Calls()
        one: Any = make(calls)
        one._lost("closed", close)
        assert [word for word in calls if word != "timeout"] == (["missing"] if code == 404 else [])
        one._link._losses = MOST_LOSSES
        calls.clear()
        one._lost("closed", close)
        assert [word for word in calls if word != "timeout"] == ["missing"]


def test_a_cancelled_consumer_is_lost_when_the_broker_gives_the_reason_or_after_a_timeout() -> None:
    calls = Calls()
    one = consumer(calls, "p", "q")
    first = subscribed(one)
    now = time.monotonic()
    assert one.lost(now) is None
    first.cancel(first.consumer_tags[0])
    assert one.lost(time.monotonic()) is None
    assert one.lost(time.monotonic() + SUBSCRIBE_TIMEOUT - 1) is None
    first.cancel(first.consumer_tags[0])
    assert one.lost(now + SUBSCRIBE_TIMEOUT + 1) == "lost its consumer"
    second = subscribed(one)
    assert one.lost(now + SUBSCRIBE_TIMEOUT + 1) is None
    assert one._queue_of.keys() == set(second.consumer_tags), "the earlier subscriptions are forgotten"
    second.consumer_tags.pop()
    assert one.lost(now) == "lost its consumer", "without a cancel there is no answer to wait for"


TOO_LARGE = coded(406, "PRECONDITION_FAILED - message size 2008 is larger than configured max size 1024")


def event(size: int) -> Event:
    return Event("paid", "x" * size, exchange="payments", routing_key="paid", id=f"e{size}")


@pytest.mark.parametrize("sizes", [[2000], [10, 2000], [2000, 10], [10, 2000, 500, 3000, 1000], [1030, 900, 1030]])
def test_an_event_over_the_broker_s_limit_fails_alone_and_the_others_are_published_again(sizes: list[int]) -> None:
    calls = Calls()
    one = publisher(calls)
    one._link._losses = MOST_LOSSES
    outcomes: dict[int, BrokerError | None] = {}
    for size in sizes:
        one.send(encode(event(size)), lambda encoded, error: outcomes.update({len(encoded.body) - 2: error}))
    one._lost("closed", TOO_LARGE)
    assert calls == [], "the event causes the failure"
    for size, error in outcomes.items():
        assert type(error) is (EventTooLarge if size > 1022 else BrokerUnreachable)
    assert isinstance(outcomes[max(sizes)], PublishRefused)
    words = f"event 'paid': the body has {max(sizes) + 2} bytes; allowed: 1024"
    assert str(outcomes[max(sizes)]).startswith(words)


def test_a_limit_below_the_size_of_all_events_is_the_publisher_s_error() -> None:
    calls = Calls()
    one = publisher(calls)
    one.send(encode(event(10)), lambda *_: None)
    one._link._losses = MOST_LOSSES
    one._lost("closed", TOO_LARGE)
    assert calls == ["refused"]


@pytest.mark.parametrize(
    ("of_consumer", "of_publisher", "code"),
    [
        (None, DENIALS[0], 78), (PASSING[0], DENIALS[0], 78), (DENIALS[0], PASSING[0], 78),
        (DENIALS[4], DENIALS[4], 78), (PASSING[0], PASSING[0], 75), (None, PASSING[1], 75), (None, MISSING, 75),
    ],
)  # fmt: skip
def test_a_worker_that_is_never_ready_exits_permanently_if_either_connection_is_denied(
    of_consumer: tuple[int, str] | None, of_publisher: tuple[int, str], code: int
) -> None:
    def part(close: tuple[int, str]) -> Any:
        return SimpleNamespace(problem=lambda: close[1], close_reason=coded(*close))

    worker = Worker.__new__(Worker)
    stopped: list[int] = []
    worker._consumer = None if of_consumer is None else part(of_consumer)
    worker._publisher = part(of_publisher)
    worker._problems = {"publisher": of_publisher[1]}
    worker._was_ready, worker._connect_time = False, 1.0
    worker._log = SimpleNamespace(error=lambda *_: None)  # type: ignore[assignment]
    worker.stop = stopped.append  # type: ignore[method-assign,assignment]
    worker._give_up()
    assert stopped == [code]


def test_a_present_connection_does_not_make_an_earlier_denial_final() -> None:
    worker = Worker.__new__(Worker)
    stopped: list[int] = []
    worker._consumer = SimpleNamespace(problem=lambda: "not subscribed", close_reason=coded(*PASSING[0]))  # type: ignore[assignment]
    worker._publisher = SimpleNamespace(problem=lambda: None, close_reason=coded(*DENIALS[0]))  # type: ignore[assignment]
    worker._problems = {"publisher": None}
    worker._was_ready, worker._connect_time = False, 1.0
    worker._log = SimpleNamespace(error=lambda *_: None)  # type: ignore[assignment]
    worker.stop = stopped.append  # type: ignore[method-assign,assignment]
    worker._give_up()
    assert stopped == [75]
