"""The consumer on a real broker: deliveries, acknowledgements, and lost subscriptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from runner.admin.declaration import declare
from runner.amqp.consumer import Consumer, Delivery
from runner.amqp.io_thread import IoThread
from runner.amqp.wire.property_codec import FLAGS, Properties
from runner.topology.model import Objects, Queue
from tests import hostile
from tests.amqp import publish_all
from tests.dead_lettered import held
from tests.rabbit import Vhost, wait_until

pytestmark = pytest.mark.usefixtures("each_connection")


class Subscription:
    """A consumer with the deliveries and events that it received."""

    def __init__(self, io: IoThread, vhost: Vhost, queues: list[str], prefetch: int, at_first: int = 1) -> None:
        self.deliveries: list[Delivery] = []
        self.states: list[str | None] = []
        self.missing: list[str] = []
        self.refused: list[str] = []
        self.consumer = Consumer(
            io, [vhost.url], "test", queues, prefetch, self.deliveries.append, self.states.append, self.missing.append,
            at_first, on_refused=self.refused.append,
        )  # fmt: skip
        self.consumer.start()

    def close(self, io: IoThread) -> None:
        """Close the connection, also while it is being opened."""
        closed = threading.Event()
        io.call(lambda: self.consumer.close(closed.set))
        assert closed.wait(5)


@pytest.fixture
def subscribe(vhost: Vhost) -> Iterator[Callable[..., Subscription]]:
    declare([vhost.url], Objects((), (Queue("a"), Queue("b")), ()))
    io = IoThread(on_crash=lambda: None)
    io.start()
    made: list[Subscription] = []

    def make(*queues: str, prefetch: int = 10, at_first: int = 1) -> Subscription:
        one = Subscription(io, vhost, list(queues), prefetch, at_first)
        made.append(one)
        wait_until(lambda: None in one.states, 10, "subscribed")
        return one

    yield make
    for one in made:
        one.close(io)
    io.stop(5)


def publish(vhost: Vhost, queue: str, count: int, **properties: Any) -> None:
    numbers = (str(number).encode() for number in range(count))
    publish_all(vhost.url, (("", queue, one, pika.BasicProperties(**properties)) for one in numbers))


def ready(vhost: Vhost, queue: str) -> int:
    return held(vhost.url, queue)[0]


def acknowledge(deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        delivery.ack()


def test_messages_arrive_one_by_one_until_a_full_prefetch_was_acknowledged(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    one = subscribe("a", prefetch=5)
    publish(vhost, "a", 30)
    for count in range(1, 6):
        wait_until(lambda count=count: len(one.deliveries) == count, 10)  # type: ignore[misc]
        assert ready(vhost, "a") == 30 - count
        one.deliveries[-1].ack()
    wait_until(lambda: len(one.deliveries) == 10, 10)
    wait_until(lambda: ready(vhost, "a") == 20, 5)


def test_no_more_messages_than_the_prefetch_are_delivered_until_some_are_acknowledged(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    one = subscribe("a", prefetch=5, at_first=5)
    publish(vhost, "a", 30)
    wait_until(lambda: len(one.deliveries) == 5, 10)
    assert ready(vhost, "a") == 25
    for delivery in one.deliveries[:3]:
        delivery.ack()
    wait_until(lambda: len(one.deliveries) == 8, 10)


def test_messages_can_be_acknowledged_in_any_order_from_many_threads_each_exactly_once(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    one = subscribe("a", "b", prefetch=500, at_first=500)
    publish(vhost, "a", 200)
    publish(vhost, "b", 200)
    wait_until(lambda: len(one.deliveries) == 400, 10)
    backwards = list(reversed(one.deliveries))
    threads = [threading.Thread(target=acknowledge, args=(backwards[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    closed = threading.Event()
    one.consumer._io.call(lambda: one.consumer.close(closed.set))
    assert closed.wait(5)
    assert (ready(vhost, "a"), ready(vhost, "b")) == (0, 0)
    assert one.states == [None]


def test_a_message_has_the_properties_of_its_delivery(subscribe: Callable[..., Subscription], vhost: Vhost) -> None:
    one = subscribe("a")
    publish(vhost, "a", 1, message_id="m", type="order.created", headers={"x-attempt": 3})
    wait_until(lambda: len(one.deliveries) == 1, 10)
    first = one.deliveries[0].message()
    assert (first.id, first.type, first.attempt, first.redelivered) == ("m", "order.created", 3, False)
    assert (first.routing_key, first.exchange, first.queue, first.body) == ("a", "", "a", b"0")


def test_messages_with_unreadable_properties_arrive_in_order_with_their_readable_properties(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    messages = list(hostile.fitting(60, 5))
    one = subscribe("a", prefetch=100, at_first=100)
    hostile.Client(vhost.url, "", "a").publish([(message.properties, message.body) for message in messages])
    wait_until(lambda: len(one.deliveries) == len(messages), 10, "all are delivered")
    for message, delivery in zip(messages, one.deliveries, strict=True):
        sent = Properties(message.properties)
        came, wrote = ({name: getattr(one, name) for name in FLAGS} for one in (delivery.properties, sent))
        if vhost.rabbit.version >= (4,):
            # RabbitMQ 4 sorts headers. Of several headers with one name it keeps another than RabbitMQ 3.
            came["headers"], wrote["headers"] = (sorted(map(repr, one["headers"] or {})) for one in (came, wrote))
        assert repr(came) == repr(wrote)
        assert delivery.problem == (sent.problem or None)
        assert delivery.message().body == message.body
    acknowledge(one.deliveries)
    assert one.states == [None], "the connection was not lost"


def test_the_consumer_subscribes_again_after_a_lost_connection_and_ignores_old_deliveries(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    one = subscribe("a", prefetch=3, at_first=3)
    publish(vhost, "a", 3)
    wait_until(lambda: len(one.deliveries) == 3, 10)
    wait_until(vhost.connections, 20, "the statistics know the connection")
    vhost.close_connections()
    wait_until(lambda: len(one.deliveries) == 6, 15, "delivered again")
    assert not one.deliveries[0].is_alive
    acknowledge(one.deliveries)
    wait_until(lambda: ready(vhost, "a") == 0, 5)
    publish(vhost, "a", 1)
    wait_until(lambda: len(one.deliveries) == 7, 5, "the old answers did no harm")


def test_the_consumer_waits_for_a_permission_that_is_missing_for_a_moment(
    subscribe: Callable[..., Subscription], vhost: Vhost
) -> None:
    """The same happens if the backend that the broker asks for permissions, such as LDAP, does not answer."""
    one = subscribe("a")
    path = f"/permissions/{vhost.name}/guest"
    vhost.rabbit.api("PUT", path, {"configure": ".*", "write": ".*", "read": "^$"})
    wait_until(vhost.connections, 20, "the statistics know the connection")
    vhost.close_connections()
    wait_until(lambda: "refused for user 'guest'" in str(one.states[-1]), 15, "it may not subscribe")
    vhost.rabbit.api("PUT", path, {"configure": ".*", "write": ".*", "read": ".*"})
    wait_until(lambda: one.states[-1] is None, 15, "subscribed again")
    assert (one.refused, one.missing) == ([], [])
    publish(vhost, "a", 1)
    wait_until(lambda: len(one.deliveries) == 1, 10)


def test_a_deleted_queue_is_reported_as_missing(subscribe: Callable[..., Subscription], vhost: Vhost) -> None:
    one = subscribe("a", "b")
    vhost.delete_queue("b")
    wait_until(lambda: one.missing, 10)


def test_a_queue_that_was_never_declared_is_reported_as_missing(vhost: Vhost) -> None:
    io = IoThread(on_crash=lambda: None)
    io.start()
    one = Subscription(io, vhost, ["nowhere"], 10)
    wait_until(lambda: one.missing, 10)
    assert "no queue 'nowhere'" in one.missing[0]
    one.close(io)
    io.stop(5)
