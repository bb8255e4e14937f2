"""The publisher on a real broker: each event is confirmed or gets a clear error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.admin.declaration import declare
from runner.amqp.confirms_and_returns import WindowPlaces
from runner.amqp.io_thread import IoThread
from runner.amqp.properties import Encoded, encode
from runner.amqp.publisher import Publisher
from runner.errors import BrokerError, BrokerUnreachable, PublishRefused, Unroutable
from runner.messages import Event
from runner.topology.model import Binding, Exchange, Objects, Queue
from tests.proof import times
from tests.rabbit import LIMITED, Rabbit, Vhost, wait_until

OBJECTS = Objects(
    exchanges=(Exchange("orders", "topic"),),
    queues=(Queue("all"), Queue("small", True, {"x-max-length": 2, "x-overflow": "reject-publish"})),
    bindings=(Binding("orders", "all", routing_key="order.#"), Binding("orders", "small", routing_key="small")),
)


pytestmark = pytest.mark.usefixtures("each_connection")


@pytest.fixture
def connect(vhost: Vhost) -> Iterator[Callable[..., Publisher]]:
    declare([vhost.url], OBJECTS)
    io = IoThread(on_crash=lambda: None)
    io.start()
    made: list[Publisher] = []

    def make(**options: Any) -> Publisher:
        publisher = Publisher(io, [vhost.url], "test", lambda _: None, lambda _: None, **options)
        publisher.start()
        wait_until(lambda: publisher.problem() is None, 10, "connected")
        made.append(publisher)
        return publisher

    yield make
    for publisher in made:
        closed = threading.Event()
        io.call(lambda publisher=publisher, closed=closed: publisher.close(closed.set))  # type: ignore[misc]
        assert closed.wait(5)
    io.stop(5)


def event(number: int = 0, key: str = "order.created") -> Event:
    return Event("order.created", {"number": number}, exchange="orders", routing_key=key, id=f"id-{number}")


def test_events_from_many_threads_are_all_confirmed_and_in_the_queue(
    connect: Callable[..., Publisher], vhost: Vhost
) -> None:
    publisher = connect(window=WindowPlaces(100))
    futures: list[Any] = []
    count = times(150, 500)

    def publish(first: int) -> None:
        futures.extend(publisher.publish(event(number)) for number in range(first, first + count))

    threads = [threading.Thread(target=publish, args=(number * count,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for future in futures:
        future.result(10)
    messages = vhost.messages("all", 3000)
    assert sorted(one["properties"]["message_id"] for one in messages) == sorted(
        f"id-{number}" for number in range(4 * count)
    )


def test_a_published_event_is_persistent_and_has_all_properties(
    connect: Callable[..., Publisher], vhost: Vhost
) -> None:
    one = Event(
        "order.created",
        {"a": 1},
        "orders",
        "order.created",
        {"x": "y"},
        "the-id",
        "the-order",
        "the-cause",
        app_id="api",
    )
    connect().publish(one).result(5)
    (message,) = vhost.messages("all")
    properties = message["properties"]
    assert message["payload"] == '{"a":1}'
    timestamp = properties.pop("timestamp")
    assert timestamp > 1_700_000_000
    assert properties["headers"].pop("x-sent-at") // 1000 == timestamp
    assert properties == {
        "type": "order.created",
        "message_id": "the-id",
        "correlation_id": "the-order",
        "app_id": "api",
        "delivery_mode": 2,
        "content_type": "application/json",
        "headers": {"x": "y", "x-causation-id": "the-cause"},
    }


def test_only_the_event_without_a_bound_queue_is_unroutable(
    connect: Callable[..., Publisher],
) -> None:
    publisher = connect()
    futures = [publisher.publish(event(n, "nowhere" if n % 3 == 0 else "order.x")) for n in range(30)]
    for number, future in enumerate(futures):
        if number % 3 == 0:
            with pytest.raises(Unroutable, match=r"exchange 'orders', routing key 'nowhere': no binding matches"):
                future.result(5)
        else:
            future.result(5)


def test_the_same_unroutable_event_published_again_is_unroutable_again(connect: Callable[..., Publisher]) -> None:
    publisher = connect()
    for future in [publisher.publish(event(1, "nowhere")) for _ in range(10)]:
        with pytest.raises(Unroutable):
            future.result(5)
    publisher.publish(event(1)).result(5)


def test_an_event_that_a_full_queue_refuses_fails_with_the_reason(connect: Callable[..., Publisher]) -> None:
    publisher = connect()
    outcomes = [publisher.publish(event(n, "small")).exception(5) for n in range(10)]
    assert outcomes[0] is None
    assert isinstance(outcomes[-1], PublishRefused)


def test_the_publisher_reconnects_after_an_administrators_close_and_completes_all_futures(
    connect: Callable[..., Publisher], vhost: Vhost
) -> None:
    publisher = connect()
    publisher.publish(event()).result(5)
    wait_until(vhost.connections, 20, "the statistics know the connection")
    outcomes: list[Any] = []
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            outcomes.append(publisher.publish(event()).exception(10))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        wait_until(vhost.close_connections, 10)
        wait_until(lambda: any(isinstance(one, BrokerUnreachable) for one in list(outcomes)), 10, "the loss is noticed")
        seen = len(outcomes)
        wait_until(lambda: None in outcomes[seen:], 10, "published again")
    finally:
        stop.set()
        thread.join()


def test_an_unreachable_broker_fails_a_publish_at_once() -> None:
    io = IoThread(on_crash=lambda: None)
    io.start()
    publisher = Publisher(io, ["amqp://guest:secret@127.0.0.1:1/"], "test", lambda _: None, lambda _: None)
    publisher.start()
    error = publisher.publish(event()).exception(1)
    assert isinstance(error, BrokerUnreachable)
    wait_until(lambda: "refused" in str(publisher.problem()), 5)
    assert "127.0.0.1:1" in str(publisher.problem())
    assert "secret" not in str(publisher.problem())
    io.stop(5)


def test_a_body_that_is_not_json_is_the_callers_error(connect: Callable[..., Publisher]) -> None:
    publisher = connect()
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        publisher.publish(Event("x", {"a": object()}, "orders", "order.x"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        publisher.publish(Event("x", {"a": float("nan")}, "orders", "order.x"))


@pytest.mark.parametrize("identifier", ["the-same", None])
def test_a_dropped_event_is_never_reported_as_routed_even_with_the_id_of_a_routed_event(
    connect: Callable[..., Publisher], identifier: str | None
) -> None:
    publisher = connect()
    wrong: list[str] = []

    def publish(key: str, is_routable: bool) -> None:
        for _ in range(times(100, 300)):
            outcome = publisher.publish(Event("x", {}, "orders", key, id=identifier)).exception(10)
            if (outcome is None) is not is_routable:
                wrong.append(f"{key}: {outcome}")

    threads = [
        threading.Thread(target=publish, args=(f"{'order' if number % 2 else 'nowhere'}.{number}", number % 2 == 1))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "unfit",
    [
        {"id": 5},
        {"correlation_id": 5},
        {"headers": {"a": {1, 2}}},
        {"headers": {"a": "\ud800"}},
        {"routing_key": "x" * 256},
        {"type": "x" * 300},
        {"exchange": "x" * 256},
    ],
    ids=lambda unfit: next(iter(unfit)),
)
def test_an_event_that_does_not_fit_amqp_fails_alone(connect: Callable[..., Publisher], unfit: dict[str, Any]) -> None:
    publisher = connect()
    fields: dict[str, Any] = {"type": "x", "body": {}, "exchange": "orders", "routing_key": "order.x"}
    with pytest.raises((ValueError, TypeError)):
        publisher.publish(Event(**(fields | unfit)))
    publisher.publish(event()).result(5)


@pytest.mark.xdist_group(LIMITED)
@pytest.mark.parametrize("each_connection", ["fast"], indirect=True)
def test_an_event_over_the_broker_s_limit_fails_alone_and_other_events_are_published(
    limited: Rabbit,
) -> None:
    url = limited.url
    declare([url], OBJECTS)
    io = IoThread(on_crash=lambda: None)
    io.start()
    refused: list[str] = []
    publisher = Publisher(io, [url], "test", lambda _: None, refused.append, on_refused=refused.append)
    publisher.start()
    wait_until(lambda: publisher.problem() is None, 10, "connected")
    bodies = {str(size): "x" * (size - 2) for size in (7, 990, 1001, 100, 1500, 999, 1000, 100_000)}
    left, outcomes = dict(bodies), dict[str, BrokerError | None]()

    def done(encoded: Encoded, error: BrokerError | None) -> None:
        outcomes[encoded.event.id or ""] = error

    # A worker also publishes the events again that were unconfirmed together with the larger event.
    for _ in range(10):
        wait_until(lambda: publisher.problem() is None, 10, "connected")
        for name, body in left.items():
            publisher.send(encode(Event("o", body, exchange="orders", routing_key="order.created", id=name)), done)
        wait_until(lambda: len(outcomes) == len(bodies), 10, "each has its outcome")
        left = {name: body for name, body in bodies.items() if isinstance(outcomes[name], BrokerUnreachable)}
        if not left:
            break
        for name in left:
            del outcomes[name]
    closed = threading.Event()
    io.call(lambda: publisher.close(closed.set))
    assert closed.wait(5)
    io.stop(5)
    failed = {int(name): str(error) for name, error in outcomes.items() if error is not None}
    assert sorted(failed) == [1001, 1500, 100_000]
    assert all("larger than configured max size 1000" in words for words in failed.values()), failed
    assert refused == []


def test_when_the_io_thread_exits_all_futures_complete(vhost: Vhost) -> None:
    declare([vhost.url], OBJECTS)
    crashed = threading.Event()
    io = IoThread(on_crash=crashed.set)
    io.start()
    publisher = Publisher(io, [vhost.url], "test", lambda _: None, lambda _: None)
    publisher.start()
    wait_until(lambda: publisher.problem() is None, 10, "connected")

    def fail() -> None:
        raise RuntimeError("a bug")

    io.call(fail)
    assert crashed.wait(5)
    publisher.abort("the AMQP thread has crashed")
    assert isinstance(publisher.publish(event()).exception(1), BrokerUnreachable)
    # A process would exit here. The test must close the connection itself, because its thread has stopped.
    publisher._link.connection._transport._sock.close()
    io.loop.close()
