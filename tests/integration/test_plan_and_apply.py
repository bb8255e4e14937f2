"""Each kind of change on a real broker: in the plan, then made or refused by ``apply``, and not in the next plan."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.amqp import Message, channel_to, publish_all
from tests.rabbit import Vhost, wait_until
from tests.running import plain
from tests.topologies import Shop

BASE: dict[str, Any] = {
    "defaults": {"queue_type": "classic"},
    "exchanges": {"orders": {"type": "topic", "alternate_exchange": "lost"}, "lost": {"type": "fanout"}},
    "queues": {
        "work": {"bind": {"orders": ["a", "b"]}, "retry": ["1s"], "policy": {"message-ttl": 60000, "max-length": 100}},
        "fixed": {"arguments": {"x-message-ttl": 60000, "x-max-length": 100}},
        "lost.all": {"bind": {"lost": [""]}},
    },
    "policies": {"cap": {"pattern": "^lost", "definition": {"max-length": 50}}},
}


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(BASE)
    assert one.run("apply")[0] == 0
    return one


def changed(*keys: str, to: Any) -> dict[str, Any]:
    topology = copy.deepcopy(BASE)
    here = topology
    for key in keys[:-1]:
        here = here.setdefault(key, {})
    here[keys[-1]] = to
    return topology


def publish(vhost: Vhost, queue: str, count: int) -> None:
    def message(number: int) -> Message:
        properties = pika.BasicProperties(message_id=str(number), delivery_mode=2, priority=3, headers={"n": number})
        return "", queue, str(number).encode(), properties

    publish_all(vhost.url, map(message, range(count)))


def count(vhost: Vhost, queue: str) -> int:
    return vhost.ready(queue)


def policy(vhost: Vhost, name: str) -> dict[str, Any]:
    found: dict[str, Any] = vhost.rabbit.api("GET", f"/policies/{vhost.name}/{name}")["definition"]
    return found


def test_apply_creates_everything_on_an_empty_broker_and_then_has_nothing_to_do(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write(BASE)
    plan = shop.plan()
    assert plan["exit_code"] == 2
    assert {one["mark"] for one in plan["changes"]} == {"+"}
    code, output = shop.run("apply")
    assert (code, output.splitlines()[-1]) == (0, "done: the broker matches topology.yaml")
    assert shop.plan()["changes"] == []
    assert shop.run("plan") == (0, "nothing to do\n")
    assert set(vhost.queues()) == {"work", "work.retry.1s", "work.dlq", "fixed", "lost.all"}


IN_PLACE = [
    ("ttl and max length", changed("queues", "work", "policy", to={"message-ttl": 5000, "max-length": 7}),
     ("~", "policy", "fastcommerce.queue.work")),
    ("dead letter", changed("queues", "work", "dead_letter", to="parked"), ("~", "policy", "fastcommerce.queue.work")),
    ("alternate", changed("exchanges", "orders", "alternate_exchange", to="amq.fanout"),
     ("~", "policy", "fastcommerce.exchange.orders")),
    ("no alternate", changed("exchanges", "orders", "alternate_exchange", to=None),
     ("~", "policy", "fastcommerce.exchange.orders")),
    ("policy", changed("policies", "cap", "definition", to={"expires": 1000_000}), ("~", "policy", "cap")),
    ("binding added", changed("queues", "work", "bind", to={"orders": ["a", "b", "c"]}),
     ("+", "binding", "orders -(c)-> work")),
    ("binding removed", changed("queues", "work", "bind", to={"orders": ["a"]}),
     ("~", "binding", "orders -(b)-> work")),
]  # fmt: skip


@pytest.mark.parametrize(("topology", "line"), [case[1:] for case in IN_PLACE], ids=[case[0] for case in IN_PLACE])
def test_changes_in_place_touch_no_message(shop: Shop, topology: dict[str, Any], line: tuple[str, str, str]) -> None:
    publish(shop.vhost, "work", 3)
    shop.write(topology)
    plan = shop.plan()
    assert plan["exit_code"] == 2
    assert line in shop.marks()
    left = [one["name"] for one in plan["changes"] if one["mark"] in "!-?"]
    assert left == (["work.dlq"] if "dead_letter" in topology["queues"]["work"] else [])
    assert shop.run("apply")[0] == 0
    assert [one["name"] for one in shop.plan()["changes"]] == left
    assert count(shop.vhost, "work") == 3


TO_REPLACE = [
    ("queue type", changed("queues", "work", "type", to="quorum"), "work", "queue",
     "type is 'quorum' here, but 'classic' on the broker"),
    ("ttl argument", changed("queues", "fixed", "arguments", "x-message-ttl", to=5000), "fixed", "queue",
     "x-message-ttl is 5000 here, but 60000 on the broker"),
    ("argument gone", changed("queues", "fixed", "arguments", to={"x-max-length": 100}), "fixed", "queue",
     "x-message-ttl is not set here, but 60000 on the broker"),
    ("durable", changed("queues", "fixed", "durable", to=False), "fixed", "queue",
     "durable is false here, but true on the broker"),
    ("exchange type", changed("exchanges", "orders", "type", to="direct"), "orders", "exchange",
     "type is 'direct' here, but 'topic' on the broker"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("topology", "name", "kind", "why"), [case[1:] for case in TO_REPLACE], ids=[case[0] for case in TO_REPLACE]
)
def test_an_object_that_cannot_change_is_only_replaced_if_the_user_names_it(
    shop: Shop, topology: dict[str, Any], name: str, kind: str, why: str
) -> None:
    shop.vhost.rabbit.api("PUT", f"/queues/{shop.vhost.name}/foreign", {"durable": True})
    shop.vhost.rabbit.api("POST", f"/bindings/{shop.vhost.name}/e/orders/q/foreign", {"routing_key": "their.#"})
    shop.write(topology)
    plan = shop.plan()
    assert plan["exit_code"] == 3
    (line,) = [one for one in plan["changes"] if (one["mark"], one["name"]) == ("!", name)]
    assert (line["kind"], line["why"]) == (kind, why)
    assert line["where"].startswith("topology.yaml:")
    before = shop.vhost.queues()["fixed"], shop.vhost.exchanges()["orders"]["type"]
    code, output = shop.run("apply")
    assert code == 3
    assert f"left: {kind} {name!r}: change it back, or: python -m runner apply --replace {name}" in plain(output)
    assert (shop.vhost.queues()["fixed"]["arguments"], shop.vhost.exchanges()["orders"]["type"]) == (
        before[0]["arguments"],
        before[1],
    )
    assert shop.run("apply", "--replace", name)[0] == 0
    assert [one["mark"] for one in shop.plan()["changes"] if one["mark"] != "?"] == []
    assert ("orders", "foreign", "their.#") in {
        (one["source"], one["destination"], one["routing_key"]) for one in shop.vhost.bindings()
    }
    bound = {one["routing_key"] for one in shop.vhost.bindings() if one["destination"] == "work"}
    assert bound == {"a", "b"}


def test_a_queue_with_messages_is_only_replaced_with_drain_and_keeps_their_order_and_properties(shop: Shop) -> None:
    publish(shop.vhost, "fixed", 50)
    shop.write(changed("queues", "fixed", "type", to="quorum"))
    # The broker's statistics may not contain the messages yet.
    code, output = shop.run("apply", "--replace", "fixed")
    assert code == 3
    assert "left: queue 'fixed': it has 50 messages; add --drain to move them into the new queue" in output
    assert shop.vhost.queues()["fixed"]["type"] == "classic"
    code, output = shop.run("apply", "--replace", "fixed", "--drain")
    assert code == 0
    assert "queue fixed: 50 messages in the new queue, 50 before" in output
    assert shop.vhost.queues()["fixed"]["type"] == "quorum"
    messages = shop.vhost.messages("fixed")
    assert [one["payload"] for one in messages] == [str(number) for number in range(50)]
    seventh = messages[7]["properties"]
    # RabbitMQ 3 writes 0 for a message that was not delivered before. RabbitMQ 4 writes no header.
    assert seventh["headers"].pop("x-delivery-count", 0) == 0
    assert seventh == {"message_id": "7", "delivery_mode": 2, "priority": 3, "headers": {"n": 7}}
    assert not [name for name in shop.vhost.queues() if ".drain." in name]
    assert shop.plan()["changes"] == []


def test_a_queue_with_a_consumer_is_not_replaced(shop: Shop) -> None:
    with channel_to(shop.vhost.url) as channel:
        channel.basic_consume("fixed", lambda *_: None)
        shop.write(changed("queues", "fixed", "type", to="quorum"))
        code, output = shop.run("apply", "--replace", "fixed", "--drain")
        assert code == 1
        assert "queue 'fixed': it has 1 consumer; stop the services that consume the queue, and try again" in output
        assert shop.vhost.queues()["fixed"]["type"] == "classic"


def test_the_retry_queues_of_a_replaced_queue_are_replaced_too(shop: Shop) -> None:
    shop.write(changed("queues", "work", to=BASE["queues"]["work"] | {"durable": False, "policy": {"max-length": 3}}))
    assert {("!", "queue", "work"), ("!", "queue", "work.retry.1s")} <= shop.marks()
    code, output = shop.run("apply")
    assert code == 3
    assert "work.retry.1s" not in "".join(line for line in output.splitlines() if line.startswith("left:"))
    # The queue that still exists keeps the policy that fits it.
    assert policy(shop.vhost, "fastcommerce.queue.work")["max-length"] == 100
    assert shop.run("apply", "--replace", "work")[0] == 0
    assert shop.vhost.queues()["work.retry.1s"]["type"] == "classic"
    assert policy(shop.vhost, "fastcommerce.queue.work")["max-length"] == 3


def test_only_objects_under_retire_are_deleted_and_only_when_they_are_empty(shop: Shop) -> None:
    publish(shop.vhost, "fixed", 1)
    topology = copy.deepcopy(BASE)
    del topology["queues"]["fixed"], topology["queues"]["lost.all"], topology["policies"]
    shop.write(topology)
    plan = shop.plan()
    assert plan["exit_code"] == 0
    assert {one["name"] for one in plan["changes"]} == {"fixed", "lost.all", "cap", "lost -> lost.all"}
    assert {one["mark"] for one in plan["changes"]} == {"?"}
    assert all(one["why"].startswith("no longer in topology.yaml; ") for one in plan["changes"])
    topology["retire"] = {"queues": ["fixed", "lost.all"], "policies": ["cap"]}
    shop.write(topology)
    wait_until(lambda: any(one["messages"] for one in shop.plan()["changes"]), 15, "the count is known")
    assert {("-", "queue", "fixed"), ("-", "queue", "lost.all"), ("-", "policy", "cap")} <= shop.marks()
    code, output = shop.run("apply")
    assert code == 3
    purge = "python -m runner purge fixed; or: python -m runner move fixed QUEUE, then apply again after a few seconds"
    assert f"left: queue 'fixed': kept, it has 1 message and 0 consumers; to empty it: {purge}" in plain(output)
    assert "fixed" in shop.vhost.queues()
    assert "lost.all" not in shop.vhost.queues()
    assert {("-", "queue", "fixed")} == {one for one in shop.marks() if one[0] != "?"}
    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/fixed/contents")
    wait_until(lambda: shop.run("apply")[0] == 0, 15, "the empty queue is deleted")
    assert shop.plan()["changes"] == []


def test_a_retired_queue_is_unbound_first_and_deleted_with_its_own_queues(shop: Shop) -> None:
    publish(shop.vhost, "work", 2)
    topology = copy.deepcopy(BASE)
    del topology["queues"]["work"]
    topology["retire"] = {"queues": ["work"]}
    shop.write(topology)
    assert {one for one in shop.marks() if one[0] == "-"} == {
        ("-", "binding", "orders -(a)-> work"),
        ("-", "binding", "orders -(b)-> work"),
        ("-", "queue", "work"),
        ("-", "queue", "work.retry.1s"),
        ("-", "queue", "work.dlq"),
        ("-", "policy", "fastcommerce.queue.work"),
    }
    code, output = shop.run("apply")
    assert code == 3
    assert "left: queue 'work': kept, it has 2 messages and 0 consumers" in output
    # The queue gets no more messages, but keeps what its messages need.
    assert [one["destination"] for one in shop.vhost.bindings() if one["destination"] == "work"] == []
    assert {"work.retry.1s", "work.dlq"} <= set(shop.vhost.queues())
    assert policy(shop.vhost, "fastcommerce.queue.work")["max-length"] == 100
    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/work/contents")
    publish(shop.vhost, "work.dlq", 1)

    def applied() -> str | None:
        # RabbitMQ's statistics may show the removed messages for a few seconds.
        code, output = shop.run("apply")
        assert code == 3
        return None if "queue 'work': kept" in output else output

    output = wait_until(applied, 15, "apply sees that the queue is empty")
    assert "left: queue 'work.dlq': kept, it has 1 message and 0 consumers" in output
    assert {"work", "work.retry.1s", "work.dlq"} & set(shop.vhost.queues()) == {"work.dlq"}
    assert shop.marks() == {("-", "queue", "work.dlq")}
    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/work.dlq/contents")
    wait_until(lambda: shop.run("apply")[0] == 0, 20, "the statistics know that it is empty")
    assert shop.marks() == set()


def test_the_policy_of_a_new_queue_drops_no_message_of_the_old_queue(shop: Shop) -> None:
    publish(shop.vhost, "fixed", 50)
    shop.write(changed("queues", "fixed", to={"type": "quorum", "policy": {"max-length": 10}}))
    wait_until(lambda: any(one["messages"] == 50 for one in shop.plan()["changes"]), 15, "the count is known")
    assert shop.run("apply")[0] == 3
    assert count(shop.vhost, "fixed") == 50
    code, output = shop.run("apply", "--replace", "fixed", "--drain")
    assert code == 1
    assert "queue 'fixed': its max-length 10 has no room for 50 messages; raise it, or consume some first" in output
    assert count(shop.vhost, "fixed") == 50
    assert shop.vhost.queues()["fixed"]["type"] == "classic"


def test_a_limit_below_the_messages_of_a_classic_queue_is_a_warning(shop: Shop) -> None:
    publish(shop.vhost, "work", 50)
    shop.write(changed("queues", "work", "policy", to={"max-length": 7}))
    # The statistics may first contain only some of the messages.
    wanted = "queue 'work': max-length 7 is too low for 50 messages"
    wait_until(lambda: any(wanted in one for one in shop.plan()["warnings"]), 15, wanted)


def test_an_unacked_message_keeps_a_retired_queue(shop: Shop) -> None:
    publish(shop.vhost, "fixed", 1)
    with channel_to(shop.vhost.url) as channel:
        channel.basic_get("fixed")
        topology = copy.deepcopy(BASE)
        del topology["queues"]["fixed"]
        topology["retire"] = {"queues": ["fixed"]}
        shop.write(topology)
        wait_until(lambda: any(one["messages"] for one in shop.plan()["changes"]), 15, "the count is known")
        assert shop.run("apply")[0] == 3
    assert count(shop.vhost, "fixed") == 1


def test_a_message_that_waits_for_a_retry_keeps_its_retired_queue(shop: Shop) -> None:
    topology = copy.deepcopy(BASE)
    topology["queues"]["work"]["retry"] = ["1h"]
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    publish(shop.vhost, "work.retry.1h", 1)
    del topology["queues"]["work"]
    topology["retire"] = {"queues": ["work"]}
    shop.write(topology)
    for _ in range(2):
        code, output = shop.run("apply")
        assert code == 3
        assert "left: queue 'work.retry.1h': kept, it has 1 message" in output
    assert {"work", "work.retry.1h"} <= set(shop.vhost.queues())


def test_an_exchange_that_the_broker_refuses_is_reported_before_the_old_exchange_is_deleted(shop: Shop) -> None:
    shop.vhost.rabbit.api("PUT", f"/queues/{shop.vhost.name}/foreign", {"durable": True})
    shop.vhost.rabbit.api("POST", f"/bindings/{shop.vhost.name}/e/orders/q/foreign", {"routing_key": "their.#"})
    shop.write(changed("exchanges", "orders", to={"type": "x-random"}))
    assert shop.run("apply", "--replace", "orders")[0] != 0
    assert shop.vhost.exchanges()["orders"]["type"] == "topic"
    assert "foreign" in {one["destination"] for one in shop.vhost.bindings()}


def test_objects_of_other_clients_are_listed_and_never_changed(shop: Shop) -> None:
    api, name = shop.vhost.rabbit.api, shop.vhost.name
    api("PUT", f"/queues/{name}/theirs", {"durable": True})
    api("PUT", f"/exchanges/{name}/their.exchange", {"type": "fanout"})
    api("POST", f"/bindings/{name}/e/orders/q/work", {"routing_key": "theirs", "arguments": {"a": 1}})
    api("PUT", f"/policies/{name}/theirs", {"pattern": "^their", "definition": {"max-length": 1}, "apply-to": "queues"})
    assert shop.marks() == {
        ("?", "queue", "theirs"),
        ("?", "exchange", "their.exchange"),
        ("?", "binding", 'orders -(theirs {"a": 1})-> work'),
        ("?", "policy", "theirs"),
    }
    assert shop.run("plan")[0] == 0
    topology = copy.deepcopy(BASE)
    topology["queues"]["work"]["bind"] = {}
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    bound = [one["routing_key"] for one in shop.vhost.bindings() if one["destination"] == "work"]
    assert bound == ["theirs"]


def test_a_policy_on_the_broker_that_overrides_ours_is_reported(shop: Shop) -> None:
    body = {"pattern": "^work$", "definition": {"max-length": 1}, "apply-to": "queues", "priority": 5000}
    shop.vhost.rabbit.api("PUT", f"/policies/{shop.vhost.name}/theirs", body)
    (warning,) = shop.plan()["warnings"]
    assert warning.startswith("queue 'work': the broker's own policy 'theirs' hides 'fastcommerce.queue.work'")


def test_a_setting_that_this_broker_does_not_support_stops_apply_before_any_change(shop: Shop) -> None:
    version = ".".join(map(str, shop.vhost.rabbit.version))
    is_new = shop.vhost.rabbit.version >= (4, 3)
    old = {"type": "quorum", "policy": {"consumer-disconnected-timeout": 1000}}
    topology = changed("queues", "new", to={"type": "classic", "arguments": {"x-queue-version": 1}} if is_new else old)
    shop.write(topology)
    plan = shop.plan()
    assert plan["exit_code"] == 78
    said = (
        f"x-queue-version 1 is refused by RabbitMQ 4.3 and later (this broker runs {version})"
        if is_new
        else f"consumer-disconnected-timeout needs RabbitMQ 4.3 or later (this broker runs {version})"
    )
    (problem,) = plan["problems"]
    line = re.escape(f": queue 'new': {said}; remove it, or use another broker")
    assert re.fullmatch(rf"topology\.yaml:\d+{line}", problem)
    code, output = shop.run("apply")
    assert code == 78
    assert said in output
    assert "new" not in shop.vhost.queues()


def test_an_unknown_name_to_replace_is_a_usage_error(shop: Shop) -> None:
    code, output = shop.run("apply", "--replace", "work")
    assert code == 2
    assert "no object named 'work' needs to be replaced" in output


def test_an_unreachable_broker_exits_with_75(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.config["broker"] |= {"url": "amqp://127.0.0.1:1/", "management": "http://127.0.0.1:1"}
    shop.write(BASE)
    code, output = shop.run("plan")
    assert (code, output) == (
        75,
        "broker.url: no broker answers at 127.0.0.1:1 (connection refused);"
        " start a broker, or set broker.autostart to true\n",
    )
