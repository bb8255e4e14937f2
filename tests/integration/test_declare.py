"""Declarations on a real broker: complete, repeatable, and refused with both values."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runner.admin.declaration import declare
from runner.config.topology_file import Topology
from runner.topology.compile import compile_topology
from runner.topology.model import Binding, Exchange, Objects, Queue
from tests.rabbit import Vhost

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 7, "x-dead-letter-strategy": "at-least-once"}
TOPOLOGY = Topology.model_validate(
    {
        "exchanges": {
            "orders.topic": {"type": "topic", "alternate_exchange": "unrouted"},
            "audit": {"type": "fanout"},
            "regions": {"type": "headers"},
            "unrouted": {"type": "fanout"},
        },
        "queues": {
            "payment": {"bind": {"orders.topic": ["order.#"]}, "retry": ["1s", "500ms"]},
            "plain": {"type": "classic"},
            "eu": {},
        },
        "bindings": [
            {"source": "orders.topic", "destination": "audit", "destination_type": "exchange", "routing_key": "#"},
            {"source": "regions", "destination": "eu", "arguments": {"x-match": "all", "region": "eu", "big": True}},
            {"source": "audit", "destination": "plain"},
        ],
    }
)


def test_the_whole_topology_is_on_the_broker_after_one_declaration_and_after_two(vhost: Vhost) -> None:
    objects = compile_topology(TOPOLOGY, consumed={"payment"}, with_policies=False)
    for _ in range(2):
        assert declare([vhost.url], objects) == []
    queues = vhost.queues()
    assert set(queues) == {"payment", "plain", "eu", "payment.retry.1s", "payment.retry.500ms", "payment.dlq"}
    assert queues["payment"]["arguments"] == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 100,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "payment.dlq",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert queues["payment.retry.500ms"]["arguments"]["x-message-ttl"] == 500
    assert queues["plain"]["type"] == "classic"
    exchange = vhost.exchanges()["orders.topic"]
    assert (exchange["type"], exchange["durable"]) == ("topic", True)
    assert exchange["arguments"] == {"alternate-exchange": "unrouted"}
    bindings = {
        (one["source"], one["destination_type"], one["destination"], one["routing_key"]): one["arguments"]
        for one in vhost.bindings()
    }
    assert bindings == {
        ("orders.topic", "queue", "payment", "order.#"): {},
        ("orders.topic", "exchange", "audit", "#"): {},
        ("regions", "queue", "eu", ""): {"x-match": "all", "region": "eu", "big": True},
        ("audit", "queue", "plain", ""): {},
    }


def test_every_refused_object_is_named_with_both_values_and_the_rest_is_declared(vhost: Vhost) -> None:
    before = Objects((Exchange("e", "topic"),), (Queue("q", True, QUORUM), Queue("ttl", True, {"x-max-length": 9})), ())
    assert declare([vhost.url], before) == []
    after = Objects(
        (Exchange("e", "fanout"), Exchange("new", "topic")),
        (Queue("q", True, {"x-queue-type": "classic"}), Queue("ttl", True, {"x-message-ttl": 5}), Queue("other")),
        (Binding("new", "other", routing_key="x"),),
    )
    refusals = {refusal.thing.name: refusal.text for refusal in declare([vhost.url], after)}  # type: ignore[union-attr]
    assert refusals == {
        "e": "type is 'fanout' here, but 'topic' on the broker; change it back here, or delete the exchange on the"
        " broker with its bindings and start again",
        "q": "x-queue-type is 'classic' here, but 'quorum' on the broker; change it back here, or delete the queue on"
        " the broker with its messages and start again",
        "ttl": "x-message-ttl is '5' here, but not set on the broker, x-max-length is not set here, but '9' on the"
        " broker; change it back here, or delete the queue on the"
        " broker with its messages and start again",
    }
    assert {"other", "q", "ttl"} == set(vhost.queues())
    assert [one["destination"] for one in vhost.bindings()] == ["other"]


def test_a_refusal_without_a_difference_keeps_the_brokers_reason(vhost: Vhost) -> None:
    objects = Objects((), (Queue("q", True, {"x-message-ttl": -5}),), ())
    (refusal,) = declare([vhost.url], objects)
    assert refusal.text.startswith("the broker refuses it: PRECONDITION_FAILED - invalid arg 'x-message-ttl'")


def test_the_second_address_is_used_if_the_first_does_not_answer(vhost: Vhost) -> None:
    objects = Objects((), (Queue("q"),), ())
    assert declare(["amqp://guest:guest@127.0.0.1:1/", vhost.url], objects) == []
    assert set(vhost.queues()) == {"q"}


@pytest.mark.parametrize(("said", "waits"), [("0", False), ("", True), ("no", True), (None, True)])
def test_the_wait_after_a_declaration_is_skipped_only_for_the_exact_setting(
    said: str | None, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTCOMMERCE_SETTLE", raising=False)
    if said is not None:
        monkeypatch.setenv("FASTCOMMERCE_SETTLE", said)
    command = [sys.executable, "-c", "from runner.admin import declaration; print(declaration.SETTLES)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == str(waits)
