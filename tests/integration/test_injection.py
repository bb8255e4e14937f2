"""Messages that are injected into a queue on a real broker."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pika
import pytest

from runner.admin.batch import publish_all
from runner.amqp.properties import encode
from runner.errors import BrokerUnreachable, PublishRefused, RunnerError
from runner.faults.message_injection import Duplicate
from runner.messages import Event
from runner.topology.model import Binding
from tests.amqp import channel_to
from tests.amqp import publish as amqp_publish
from tests.dead_lettered import failed, held, take
from tests.ports import free_port
from tests.rabbit import Vhost, wait_until

BINDINGS = [Binding("shop", "jobs", routing_key="job.#"), Binding("shop", "jobs", routing_key="*.now")]


@pytest.fixture
def channel(vhost: Vhost) -> Any:
    """Yield a channel of a vhost with the queues ``jobs`` and ``other``."""
    with channel_to(vhost.url) as channel:
        channel.exchange_declare("shop", "topic")
        for name in ("jobs", "other"):
            channel.queue_declare(name)
            for one in BINDINGS:
                channel.queue_bind(name, "shop", one.routing_key)
        yield channel


def duplicated(url: str, count: int, publish: Any, seconds: float = 20.0) -> list[str]:
    begun, found = threading.Event(), []
    one = Duplicate(url, "jobs", BINDINGS, count, begun.set, lambda: True)
    thread = threading.Thread(target=lambda: found.extend(one.run(seconds)))
    thread.start()
    assert begun.wait(20)
    publish()
    thread.join(seconds + 20)
    assert not thread.is_alive()
    return found


@pytest.mark.usefixtures("each_connection")
def test_a_copy_is_the_same_in_body_id_headers_and_properties_and_in_no_other_queue(vhost: Vhost, channel: Any) -> None:
    _, properties = failed("m1", when=datetime(2026, 1, 2, tzinfo=UTC), nested={"a": [1, "b", None]}, big=2**40)
    properties.delivery_mode = 2

    def publish() -> None:
        amqp_publish(channel, "shop", "job.now", b"\x00\xff", properties, mandatory=True)

    assert duplicated(vhost.url, 1, publish) == ["m1"]
    first, second = take(vhost.url, "jobs", 2)
    assert {(one[0].exchange, one[0].routing_key) for one in (first, second)} == {("shop", "job.now"), ("", "jobs")}
    assert first[2] == second[2] == b"\x00\xff"
    assert first[1].__dict__ == second[1].__dict__
    assert held(vhost.url, "other") == [1]


def test_only_the_given_number_of_messages_is_copied_and_each_once(vhost: Vhost, channel: Any) -> None:
    def publish() -> None:
        for number in range(300):
            properties = pika.BasicProperties(message_id=f"m{number}", delivery_mode=2)
            amqp_publish(channel, "shop", "job.now", b"{}", properties, mandatory=True)

    assert duplicated(vhost.url, 200, publish) == [f"m{number}" for number in range(200)]
    assert held(vhost.url, "jobs", "other") == [500, 300]
    assert [name for name in vhost.queues() if name.startswith("amq.")] == []


def test_a_duplicate_stops_once_it_is_no_longer_active(vhost: Vhost, channel: Any) -> None:
    assert Duplicate(vhost.url, "jobs", BINDINGS, 5, lambda: None, lambda: False).run(60) == []


def event(queue: str) -> Any:
    return encode(Event("x", b"no JSON", exchange="", routing_key=queue, id=str(uuid.uuid4())))


def test_injected_messages_are_in_the_queue_when_the_call_returns(vhost: Vhost, channel: Any) -> None:
    messages = [event("jobs") for _ in range(50)]
    publish_all(vhost.url, "test", messages)
    assert held(vhost.url, "jobs", "other") == [50, 0]


def test_a_missing_or_full_queue_and_an_unreachable_broker_are_errors(vhost: Vhost, channel: Any) -> None:
    channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    with pytest.raises(RunnerError, match="queue 'nowhere' does not exist"):
        publish_all(vhost.url, "test", [event("nowhere")])
    publish_all(vhost.url, "test", [event("full")])
    wait_until(lambda: held(vhost.url, "full") == [1])
    with pytest.raises(PublishRefused, match="queue 'full' refused a message; the queue may be full"):
        publish_all(vhost.url, "test", [event("full")] * 3)
    with pytest.raises(BrokerUnreachable):
        publish_all(f"amqp://127.0.0.1:{free_port()}/", "test", [event("jobs")])
    with pytest.raises(RunnerError, match="no exchange 'gone'"):
        Duplicate(vhost.url, "jobs", [Binding("gone", "jobs")], 1, lambda: None, lambda: True).run(5)
