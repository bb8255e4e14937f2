"""``apply --prune`` deletes the remains of an undone exercise on a real broker, and no objects of other clients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.amqp import channel_to, publish
from tests.rabbit import Vhost, wait_until
from tests.running import plain
from tests.topologies import Shop

#: The part of the shipped topology that exercise 3 of the README extends.
BASE: dict[str, Any] = {
    "exchanges": {"orders.topic": {"type": "topic"}},
    "queues": {"payment.order.created": {"bind": {"orders.topic": ["order.created.#"]}, "retry": ["1s"]}},
}
EXERCISE = copy.deepcopy(BASE)
EXERCISE["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.*.eu"]}}


@pytest.fixture
def undone(tmp_path: Path, vhost: Vhost) -> Shop:
    """Return a project in which the exercise was done and undone again, with one of its messages in a queue."""
    shop = Shop(tmp_path / "shop", vhost)
    for topology in (BASE, EXERCISE):
        shop.write(topology)
        assert shop.run("apply")[0] == 0
    with channel_to(vhost.url) as channel:
        publish(channel, "orders.topic", "order.created.usd.eu", b"{}")
    shop.write(BASE)
    return shop


def names(vhost: Vhost) -> set[str]:
    policies = {str(one["name"]) for one in vhost.rabbit.api("GET", f"/policies/{vhost.name}")}
    return {*vhost.queues(), *policies} | {name for name in vhost.exchanges() if name and not name.startswith("amq.")}


def test_an_undone_exercise_leaves_no_objects_once_its_messages_are_purged(undone: Shop) -> None:
    vhost = undone.vhost
    vhost.rabbit.api("PUT", f"/queues/{vhost.name}/eu.others", {"durable": True})
    assert undone.run("apply")[0] == 0
    assert {"eu.orders", "eu.orders.dlq"} <= set(vhost.queues()), "without --prune nothing is touched"
    (line,) = [one for one in undone.plan()["changes"] if one["name"] == "eu.orders"]
    assert line["why"] == "no longer in topology.yaml; apply --prune unbinds it, and deletes it once it is empty"
    code, output = undone.run("apply", "--prune")
    assert code == 3
    purge = "python -m runner purge eu.orders; or: python -m runner move eu.orders QUEUE, then apply again after"
    assert f"left: queue 'eu.orders': kept, it has 1 message and 0 consumers; to empty it: {purge}" in plain(output)
    with channel_to(vhost.url) as channel:
        publish(channel, "orders.topic", "order.created.usd.eu", b"{}")
        assert vhost.ready("eu.orders") == 1, "it gets no more messages"
    code, output = undone.run("purge", "eu.orders", "--yes")
    assert code == 0, output
    wait_until(lambda: undone.run("apply", "--prune")[0] == 0, 15, "the statistics know that it is empty")
    assert names(vhost) == {
        "orders.topic",
        "payment.order.created",
        "payment.order.created.retry.1s",
        "payment.order.created.dlq",
        "fastcommerce.queue.payment.order.created",
        "eu.others",
    }
    assert undone.run("apply", "--prune") == (0, "done: the broker matches topology.yaml\n")


def test_a_queue_that_another_client_consumes_stays_bound(undone: Shop) -> None:
    with channel_to(undone.vhost.url) as channel:
        channel.basic_consume("eu.orders", lambda *_: None)
        code, output = undone.run("apply", "--prune")
        assert code == 3
        assert "left: queue 'eu.orders': kept, it has 1 consumer" in output
        publish(channel, "orders.topic", "order.created.usd.eu", b"{}")
    wait_until(lambda: undone.vhost.ready("eu.orders") == 2, 10, "it still gets messages")
    assert "fastcommerce.queue.eu.orders" in names(undone.vhost)
