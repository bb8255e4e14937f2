"""A broker whose HTTP API reports no counts. Unknown is not treated as zero, and the queue itself is asked."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.admin.management import Management
from runner.admin.statistics import MessageCounts, counted_by_queues, message_counts
from tests.amqp import channel_to, publish_all
from tests.rabbit import LIMITED, Rabbit, Vhost
from tests.topologies import Shop

pytestmark = pytest.mark.xdist_group(LIMITED)

TOPOLOGY: dict[str, Any] = {
    "defaults": {"queue_type": "quorum"},
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {"work": {"bind": {"orders": ["a"]}, "retry": ["1s"]}},
}


@pytest.fixture
def shop(limited: Rabbit, tmp_path: Path) -> Iterator[Shop]:
    vhost = limited.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY, {"s": {"plugin": "payment", "consumes": ["work"]}})
    assert one.run("apply")[0] == 0
    assert "messages" not in vhost.queues()["work"], "this broker gives no counts"
    yield one
    vhost.delete()


@pytest.fixture
def consumer(shop: Shop) -> Iterator[Any]:
    """Return a function that consumes all messages of a queue without acknowledging."""
    with channel_to(shop.vhost.url) as channel:

        def hold(queue: str, count: int) -> None:
            got: list[int] = []
            channel.basic_consume(queue, lambda _, method, *__: got.append(method.delivery_tag))
            while len(got) < count:
                channel.connection.process_data_events(0.1)

        yield hold


def publish(vhost: Vhost, queue: str, count: int) -> None:
    persistent = pika.BasicProperties(delivery_mode=2)
    publish_all(vhost.url, [("", queue, str(number).encode(), persistent) for number in range(count)])


def replacing(shop: Shop, **settings: Any) -> None:
    topology = copy.deepcopy(TOPOLOGY)
    topology["queues"]["work"]["type"] = "classic"
    topology["queues"]["work"] |= settings
    shop.write(topology, {"s": {"plugin": "payment", "consumes": ["work"]}})


def line(shop: Shop) -> Any:
    (one,) = [change for change in shop.plan()["changes"] if change["name"] == "work" and change["kind"] == "queue"]
    return one


def test_a_full_queue_is_not_replaced_without_drain(shop: Shop) -> None:
    publish(shop.vhost, "work", 3)
    replacing(shop)
    assert line(shop)["messages"] == 3
    code, output = shop.run("apply", "--replace", "work")
    assert code == 3
    assert "left: queue 'work': it has 3 messages; add --drain" in output
    assert "moved" not in output
    assert shop.vhost.queues()["work"]["type"] == "quorum"
    assert shop.vhost.ready("work") == 3


def test_a_full_queue_is_replaced_with_its_messages_by_drain(shop: Shop) -> None:
    publish(shop.vhost, "work", 3)
    replacing(shop)
    code, output = shop.run("apply", "--replace", "work", "--drain")
    assert code == 0, output
    assert shop.vhost.queues()["work"]["type"] == "classic"
    assert shop.vhost.ready("work") == 3


def test_an_empty_queue_that_nothing_consumes_is_replaced(shop: Shop) -> None:
    replacing(shop)
    assert line(shop)["messages"] == 0
    assert shop.run("apply", "--replace", "work")[0] == 0
    assert shop.vhost.queues()["work"]["type"] == "classic"


def test_a_queue_with_unacked_messages_is_not_treated_as_empty(shop: Shop, consumer: Any) -> None:
    publish(shop.vhost, "work", 3)
    consumer("work", 3)
    assert shop.vhost.ready("work") == 0
    replacing(shop)
    assert (line(shop)["messages"], line(shop)["consumers"]) == (None, 1)
    assert (
        "! queue    work  type is 'classic' here, but 'quorum' on the broker; an unknown number of messages, 1"
        in (shop.run("plan")[1])
    )
    code, output = shop.run("apply", "--replace", "work")
    assert code == 3
    assert "it has an unknown number of messages; add --drain" in output
    assert shop.vhost.queues()["work"]["type"] == "quorum"


@pytest.mark.parametrize(("messages", "is_consumed", "is_kept"), [
    (2, False, True), (0, True, True), (2, True, True), (0, False, False),
])  # fmt: skip
def test_only_a_retired_queue_that_is_empty_and_unused_is_deleted(
    shop: Shop, consumer: Any, messages: int, is_consumed: bool, is_kept: bool
) -> None:
    publish(shop.vhost, "work", messages)
    if is_consumed:
        consumer("work", messages)
    shop.write({"exchanges": TOPOLOGY["exchanges"], "queues": {}, "retire": {"queues": ["work"]}}, {})
    code, output = shop.run("apply")
    assert code == (3 if is_kept else 0), output
    assert ("work" in shop.vhost.queues()) == is_kept
    assert ("kept, it has" in output) == is_kept


def test_a_limit_below_the_messages_of_a_classic_queue_is_a_warning(shop: Shop, consumer: Any) -> None:
    topology = copy.deepcopy(TOPOLOGY)
    topology["queues"]["plain"] = {"type": "classic"}
    shop.write(topology, {})
    assert shop.run("apply")[0] == 0
    publish(shop.vhost, "plain", 4)
    topology["queues"]["plain"]["policy"] = {"max-length": 2}
    shop.write(topology, {})
    (warning,) = shop.plan()["warnings"]
    assert "max-length 2 is too low for 4 messages" in warning
    consumer("plain", 4)
    (warning,) = shop.plan()["warnings"]
    assert "max-length 2 may be too low for an unknown number" in warning


def test_dead_letters_of_a_removed_queue_are_found(shop: Shop) -> None:
    publish(shop.vhost, "work.dlq", 2)
    code, output = shop.run("dlq", "list")
    assert code == 0
    assert "2 dead letters" in output
    shop.write({"queues": {"other": {"retry": ["1s"]}}}, {"s": {"plugin": "payment", "consumes": ["other"]}})
    assert shop.run("apply")[0] == 0
    assert (
        "queue work.dlq: 2 messages, but its original queue is no longer in topology.yaml" in shop.run("dlq", "list")[1]
    )


def test_unacked_messages_are_unknown_only_while_something_consumes(shop: Shop, consumer: Any) -> None:
    publish(shop.vhost, "work", 3)
    management = Management(shop.vhost.url, shop.vhost.rabbit.management)
    queues = ["work", "work.dlq", "missing"]
    found = message_counts(shop.vhost.url, management, queues)
    assert found == {"work": MessageCounts(3, 0), "work.dlq": MessageCounts(0, 0), "missing": MessageCounts()}
    consumer("work", 3)
    assert message_counts(shop.vhost.url, management, queues)["work"] == MessageCounts(0, None)
    assert (management.messages_of("work"), management.ready_of("work"), management.unacknowledged_of("work")) == (
        None, None, None,
    )  # fmt: skip


def test_a_count_that_no_queue_reports_stays_unknown(shop: Shop) -> None:
    live = Management(shop.vhost.url, shop.vhost.rabbit.management).live()
    assert live.queues["work"].messages is None
    nowhere = "amqp://guest:guest@127.0.0.1:1/"
    assert counted_by_queues(live, [nowhere], ["work"]).queues["work"].messages is None
    assert counted_by_queues(live, [shop.vhost.url], ["work", "missing"]).queues["work"].messages == 0


def test_a_queue_corrects_an_old_count_unless_its_consumer_may_hold_messages(
    shop: Shop, consumer: Callable[[str, int], Any]
) -> None:
    live = Management(shop.vhost.url, shop.vhost.rabbit.management).live()

    def counted(name: str, old: int | None) -> int | None:
        before = replace(live, queues={name: replace(live.queues[name], messages=old)})
        return counted_by_queues(before, [shop.vhost.url], [name]).queues[name].messages

    publish(shop.vhost, "work", 3)
    assert [counted("work", old) for old in (None, 0, 5)] == [3, 3, 3]
    consumer("work", 3)
    assert [counted("work", old) for old in (None, 0, 5)] == [None, 0, 5]
    assert [counted("work.dlq", old) for old in (None, 5)] == [0, 0]
