"""Quorum queues without a consumer on a real broker keep a message that passes the delivery limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pika
import pytest

from runner.config.queue_policy import DELIVERY_LIMIT
from runner.config.version import DEFAULT_DELIVERY_LIMIT, HAS_DELIVERY_LIMIT
from tests.amqp import channel_to
from tests.amqp import publish as publish_one
from tests.rabbit import Vhost, wait_until
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {"unrouted": {"type": "fanout"}},
    "queues": {"unrouted.all": {"bind": {"unrouted": [""]}}},
}


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    return one


def publish(vhost: Vhost, exchange: str, key: str) -> None:
    with channel_to(vhost.url) as channel:
        publish_one(channel, exchange, key, b"kept", pika.BasicProperties(message_id="one"), mandatory=True)


def look(vhost: Vhost, queue: str, times: int) -> None:
    """Deliver the first message and requeue it, as the management page does."""
    with channel_to(vhost.url) as channel:
        for _ in range(times):
            method, _, _ = channel.basic_get(queue)
            if method is not None:
                channel.basic_reject(method.delivery_tag, requeue=True)


def test_a_message_that_passes_the_delivery_limit_is_kept(shop: Shop, vhost: Vhost) -> None:
    assert shop.run("apply")[0] == 0
    publish(vhost, "unrouted", "")
    wait_until(lambda: vhost.ready("unrouted.all") == 1, what="the message is there")
    look(vhost, "unrouted.all", DEFAULT_DELIVERY_LIMIT + 5)
    wait_until(lambda: vhost.ready("unrouted.all") == 1, what="it is still there")
    look(vhost, "unrouted.all", DELIVERY_LIMIT)
    wait_until(lambda: vhost.ready("unrouted.all.dlq") == 1, what="it is dead-lettered")
    assert vhost.ready("unrouted.all") == 0
    code, output = shop.run("dlq", "list")
    assert code == 0
    assert "unrouted.all" in output


def test_a_dead_letter_of_a_queue_without_a_consumer_is_replayed(shop: Shop, vhost: Vhost) -> None:
    assert shop.run("apply")[0] == 0
    publish(vhost, "unrouted", "")
    wait_until(lambda: vhost.ready("unrouted.all") == 1, what="the message is there")
    look(vhost, "unrouted.all", DELIVERY_LIMIT + 1)
    wait_until(lambda: vhost.ready("unrouted.all.dlq") == 1, what="it is dead-lettered")
    assert shop.run("dlq", "replay", "--queue", "unrouted.all")[0] == 0
    wait_until(lambda: vhost.ready("unrouted.all") == 1, what="it is back")


def test_a_broker_of_an_older_release_is_upgraded_without_a_replacement(shop: Shop, vhost: Vhost) -> None:
    body = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    vhost.rabbit.api("PUT", f"/queues/{vhost.name}/unrouted.all", body)
    publish(vhost, "", "unrouted.all")
    plan = shop.plan()
    assert {(one["mark"], one["name"]) for one in plan["changes"] if one["kind"] in ("queue", "policy")} == {
        ("+", "unrouted.all.dlq"),
        ("+", "fastcommerce.queue.unrouted.all"),
    }
    assert plan["exit_code"] == 2
    assert shop.run("apply")[0] == 0
    assert vhost.ready("unrouted.all") == 1
    look(vhost, "unrouted.all", DEFAULT_DELIVERY_LIMIT + 5)
    wait_until(lambda: vhost.ready("unrouted.all") == 1, what="it is still there")


def test_a_message_in_a_retry_queue_that_passes_the_broker_s_limit_returns_to_its_queue(
    shop: Shop, vhost: Vhost
) -> None:
    shop.write({"queues": {"work": {"retry": ["1h"]}}})
    assert shop.run("apply")[0] == 0
    publish(vhost, "", "work.retry.1h")
    wait_until(lambda: vhost.ready("work.retry.1h") == 1, what="it waits")
    look(vhost, "work.retry.1h", DEFAULT_DELIVERY_LIMIT + 5)
    has_limit = HAS_DELIVERY_LIMIT.holds(vhost.rabbit.version)
    there = "work" if has_limit else "work.retry.1h"
    wait_until(lambda: vhost.ready(there) == 1, what=f"it is in {there}")


def test_a_handler_can_run_longer_than_the_broker_s_default_timeout(shop: Shop, vhost: Vhost) -> None:
    (shop.folder / "plugins").mkdir()
    service = {"consumes": ["work"], "handler_timeout": "2h", "prefetch": 1}
    shop.write({"queues": {"work": {"retry": ["1s"]}}}, {"payment": service})
    code, output = shop.run("apply")
    assert code == 0
    definition = vhost.rabbit.api("GET", f"/policies/{vhost.name}/fastcommerce.queue.work")["definition"]
    if vhost.rabbit.version >= (3, 12):
        assert definition["consumer-timeout"] == 7_800_000
    else:
        assert "consumer-timeout" not in definition
        assert "handler_timeout 2h exceeds 30m" in output
    assert not [one for one in shop.plan()["changes"] if one["mark"] != "?"]
