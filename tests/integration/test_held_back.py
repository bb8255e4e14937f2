"""A queue or exchange that no option allows to replace is left unchanged, with the routes of its messages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.amqp import channel_to, publish
from tests.rabbit import Vhost, wait_until
from tests.running import plain
from tests.topologies import Shop

SHIPPED: dict[str, Any] = {
    "exchanges": {"orders.topic": {"type": "topic", "alternate_exchange": "unrouted"}, "unrouted": {"type": "fanout"}},
    "queues": {
        "payment.order.created": {"bind": {"orders.topic": ["order.created.#"]}, "retry": ["1s"]},
        "notification.order.events": {"bind": {"orders.topic": ["order.created.#"]}},
        "unrouted.all": {"bind": {"unrouted": [""]}},
    },
}
PAYMENT, MAIL = "payment.order.created", "notification.order.events"


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(SHIPPED)
    assert one.run("apply")[0] == 0
    return one


def edited(*edits: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    topology = copy.deepcopy(SHIPPED)
    for edit in edits:
        edit(topology)
    return topology


def another_type_and_binding(topology: dict[str, Any]) -> None:
    topology["queues"][PAYMENT] = {"type": "classic", "bind": {"orders.topic": ["order.#"]}}


def another_exchange_type_and_keys(topology: dict[str, Any]) -> None:
    topology["exchanges"]["orders.topic"]["type"] = "direct"
    for name in (PAYMENT, MAIL):
        topology["queues"][name]["bind"] = {"orders.topic": ["order.created"]}


def through_a_new_exchange(topology: dict[str, Any]) -> None:
    topology["exchanges"]["paying"] = {"type": "fanout"}
    topology["queues"][PAYMENT] = {"type": "classic", "bind": {"paying": [""]}}
    topology["bindings"] = [
        {"source": "orders.topic", "destination": "paying", "destination_type": "exchange", "routing_key": "order.#"}
    ]


def another_argument_retries_and_dead_letter(topology: dict[str, Any]) -> None:
    topology["queues"][PAYMENT] = {
        "arguments": {"x-queue-leader-locator": "client-local"}, "bind": {"orders.topic": ["order.created"]},
        "retry": ["2s", "9s"], "dead_letter": "payment.lost", "policy": {"max-length": 1000},
    }  # fmt: skip


def another_queue_takes_over(topology: dict[str, Any]) -> None:
    topology["queues"][PAYMENT]["bind"] = {}
    topology["queues"][MAIL] = {"type": "classic", "bind": {"orders.topic": ["order.created.#", "order.created"]}}


def another_alternate_exchange(topology: dict[str, Any]) -> None:
    topology["exchanges"]["unrouted"]["type"] = "topic"
    topology["queues"]["unrouted.all"]["bind"] = {"unrouted": ["#"]}
    topology["exchanges"]["orders.topic"]["alternate_exchange"] = None
    topology["queues"][MAIL]["bind"] = {"orders.topic": ["order.created.#"], "unrouted": ["lost.#"]}


def a_policy_for_what_is_held_back(topology: dict[str, Any]) -> None:
    topology["queues"]["unrouted.all"]["type"] = "classic"
    topology["policies"] = {"cap": {"pattern": "^unrouted", "definition": {"max-length": 1}}}


def a_retired_source(topology: dict[str, Any]) -> None:
    del topology["exchanges"]["orders.topic"]
    topology["exchanges"]["orders.v2"] = {"type": "topic"}
    topology["queues"][PAYMENT] = {"type": "classic", "bind": {"orders.v2": ["order.#"]}}
    topology["queues"][MAIL]["bind"] = {"orders.v2": ["order.#"]}
    topology["retire"] = {"exchanges": ["orders.topic"]}


CASES = [
    (another_type_and_binding, {PAYMENT}),
    (another_exchange_type_and_keys, {"orders.topic"}),
    (through_a_new_exchange, {PAYMENT}),
    (another_argument_retries_and_dead_letter, {PAYMENT}),
    (another_queue_takes_over, {MAIL}),
    (another_alternate_exchange, {"unrouted"}),
    (a_policy_for_what_is_held_back, {"unrouted.all"}),
    (a_retired_source, {PAYMENT}),
]


def holding(vhost: Vhost, names: set[str]) -> list[Any]:
    """Return all that the broker reports about some queues and exchanges."""
    rabbit = vhost.rabbit
    generated = {one["name"] for one in rabbit.api("GET", f"/policies/{vhost.name}")}

    def is_listed() -> bool:
        """Return True once the HTTP API reports all policies, which it does only together with a queue's statistics."""
        return all(
            one.get("policy") for name, one in vhost.queues().items() if f"fastcommerce.queue.{name}" in generated
        )

    wait_until(is_listed, what="the policies of all queues")
    queues = {name: one for name, one in vhost.queues().items() if name.partition(".retry.")[0] in names}
    exchanges = {name: one for name, one in vhost.exchanges().items() if name in names}
    policies = [one for one in rabbit.api("GET", f"/policies/{vhost.name}") if any(n in one["name"] for n in names)]
    ends = ("source", "destination", "routing_key")
    bindings = [
        tuple(one[end] for end in ends) for one in vhost.bindings() if {one["source"], one["destination"]} & names
    ]
    owned = rabbit.api("GET", f"/global-parameters/fastcommerce.{vhost.name}")["value"]
    return [
        {name: (one["type"], one["arguments"], one.get("policy")) for name, one in queues.items()},
        {name: (one["type"], one["arguments"]) for name, one in exchanges.items()},
        sorted((one["name"], str(one["definition"])) for one in policies),
        sorted(bindings),
        sorted(str(one) for one in owned["bindings"] if {one[0], one[2]} & names),
        [name for name in owned["queues"] if name.partition(".retry.")[0] in names],
    ]


def order(vhost: Vhost, exchange: str = "orders.topic", key: str = "order.created") -> None:
    with channel_to(vhost.url) as channel:
        publish(channel, exchange, key, b"{}", pika.BasicProperties(delivery_mode=2), mandatory=True)


@pytest.mark.parametrize(("edit", "held"), CASES, ids=[case[0].__name__ for case in CASES])
def test_held_back_objects_stay_untouched_keep_their_messages_and_change_with_consent(
    shop: Shop, edit: Callable[[dict[str, Any]], None], held: set[str]
) -> None:
    before = holding(shop.vhost, held)
    shop.write(edited(edit))
    code, output = shop.run("apply")
    assert code == 3
    assert holding(shop.vhost, held) == before
    (name,) = held
    assert f"{name}: change it back, or: python -m runner apply --replace {name}" in plain(output).replace("'", "")
    # Changes that are reported as done are not in the next plan.
    done = [line for line in output.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
    left = [f"{one['mark']} {one['kind']:<8} {one['name']}" for one in shop.plan()["changes"]]
    assert [line for line in done if any(line.startswith(f"{one}  ") for one in left)] == []
    # An order reaches both queues, as before.
    order(shop.vhost)
    assert len(shop.vhost.messages(PAYMENT)) == len(shop.vhost.messages(MAIL)) == 1
    replaced = [part for one in shop.plan()["changes"] if one["mark"] == "!" for part in ("--replace", one["name"])]
    assert shop.run("apply", *replaced, "--drain")[0] == 0
    assert [one for one in shop.plan()["changes"] if one["mark"] != "?"] == []
    assert len(shop.vhost.messages(PAYMENT)) == len(shop.vhost.messages(MAIL)) == 1


def test_plan_shows_the_object_that_each_change_waits_for(shop: Shop) -> None:
    shop.write(edited(another_type_and_binding))
    waits = {one["name"]: one["waits_for"] for one in shop.plan()["changes"]}
    assert waits["orders.topic -(order.#)-> payment.order.created"] == "queue 'payment.order.created'"
    assert waits["orders.topic -(order.created.#)-> payment.order.created"] == "queue 'payment.order.created'"
    assert waits["payment.order.created"] is None
    assert "waits for queue 'payment.order.created'" in shop.run("plan")[1]


def test_an_apply_that_the_broker_refuses_prints_the_changes_made_before(shop: Shop) -> None:
    limit = f"/vhost-limits/{shop.vhost.name}/max-queues"
    shop.vhost.rabbit.api("PUT", limit, {"value": len(shop.vhost.queues()) + 1})
    topology = edited()
    topology["queues"] |= {"first": {"type": "classic"}, "second": {"type": "classic"}}
    shop.write(topology)
    code, output = shop.run("apply")
    assert (code, "first" in shop.vhost.queues(), "second" in shop.vhost.queues()) == (78, True, False)
    lines = output.splitlines()
    assert [line for line in lines if line.startswith("+ ")] == ["+ queue    first  classic  (topology.yaml:22)"]
    assert "queue 'second': the broker refuses it" in lines[-1]
    shop.vhost.rabbit.api("DELETE", limit)
    assert shop.run("apply")[0] == 0
    assert shop.plan()["changes"] == []


def test_an_exchange_is_replaced_while_its_source_exchanges_keep_routing(shop: Shop) -> None:
    topology = edited()
    topology["exchanges"]["front"] = {"type": "topic"}
    topology["bindings"] = [
        {"source": "front", "destination": "orders.topic", "destination_type": "exchange", "routing_key": "#"}
    ]
    shop.write(topology)
    assert shop.run("apply")[0] == 0
    topology["exchanges"]["orders.topic"]["type"] = "direct"
    for name in (PAYMENT, MAIL):
        topology["queues"][name]["bind"] = {"orders.topic": ["order.created"]}
    shop.write(topology)
    assert shop.run("apply", "--replace", "orders.topic")[0] == 0
    assert shop.vhost.exchanges()["orders.topic"]["type"] == "direct"
    assert "orders.topic.replace.new" not in shop.vhost.exchanges()
    order(shop.vhost, "front")
    assert len(shop.vhost.messages(PAYMENT)) == len(shop.vhost.messages(MAIL)) == 1
    assert shop.plan()["changes"] == []
