"""From the shorthand to the exact objects that are declared on a broker."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.queue_policy import DELIVERY_LIMIT
from runner.config.topology_file import Topology
from runner.topology.compile import PRIORITY, compile_topology
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue, RetryDelays


def compiled(*consumed: str, **topology: Any) -> Objects:
    return compile_topology(Topology.model_validate(topology), consumed)


PARKING = {
    "dead-letter-exchange": "",
    "delivery-limit": DELIVERY_LIMIT,
    "dead-letter-strategy": "at-least-once",
    "overflow": "reject-publish",
}


def queues(objects: Objects) -> dict[str, Queue]:
    assert len({queue.name for queue in objects.queues}) == len(objects.queues)
    return {queue.name: queue for queue in objects.queues}


def policies(objects: Objects) -> dict[str, dict[str, Any]]:
    return {one.name: dict(one.definition) for one in objects.policies}


def test_an_exchange_becomes_the_arguments_of_exchange_declare() -> None:
    found = compiled(
        exchanges={
            "orders.topic": {"alternate_exchange": "unrouted"},
            "unrouted": {"type": "fanout", "durable": False, "internal": True, "auto_delete": True},
            "hashed": {"type": "x-consistent-hash", "arguments": {"hash-header": "id"}},
        }
    )
    assert found.exchanges == (
        Exchange("orders.topic", "topic"),
        Exchange("unrouted", "fanout", False, True, {}, True),
        Exchange("hashed", "x-consistent-hash", True, False, {"hash-header": "id"}),
    )
    assert found.policies == (
        Policy(
            "fastcommerce.exchange.orders.topic",
            r"^orders\.topic\z",
            "exchanges",
            {"alternate-exchange": "unrouted"},
            PRIORITY,
        ),
    )


def test_a_classic_queue_without_a_consumer_is_only_a_queue() -> None:
    found = compiled(queues={"unrouted.all": {"type": "classic"}, "log": {"type": "stream"}})
    assert found.queues == (
        Queue("unrouted.all", True, {"x-queue-type": "classic"}),
        Queue("log", True, {"x-queue-type": "stream"}),
    )
    assert (found.retry_delays, found.policies) == ({}, ())


def test_bind_becomes_one_binding_for_each_key_and_before_the_explicit_ones() -> None:
    found = compiled(
        exchanges={"a": {}, "b": {}},
        queues={"q": {"bind": {"a": ["x", "y"], "b": [""]}}},
        bindings=[{"source": "a", "destination": "b", "destination_type": "exchange", "arguments": {"k": 1}}],
    )
    assert found.bindings == (
        Binding("a", "q", "queue", "x"),
        Binding("a", "q", "queue", "y"),
        Binding("b", "q", "queue", ""),
        Binding("a", "b", "exchange", "", {"k": 1}),
    )


def test_a_consumed_queue_gets_a_dead_letter_queue() -> None:
    found = compiled("payment", queues={"payment": {}})
    by_name = queues(found)
    assert list(by_name) == ["payment", "payment.dlq"]
    assert by_name["payment"].arguments == {"x-queue-type": "quorum"}
    assert policies(found)["fastcommerce.queue.payment"] == {
        "dead-letter-exchange": "",
        "dead-letter-routing-key": "payment.dlq",
        "delivery-limit": DELIVERY_LIMIT,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    }
    assert found.retry_delays["payment"].steps == ()
    assert found.retry_delays["payment"].dead_letter == "payment.dlq"


def test_a_dead_letter_queue_is_durable_and_has_no_delivery_limit() -> None:
    by_name = queues(compiled("a", defaults={"durable": False, "queue_type": "classic"}, queues={"a": {}}))
    assert by_name["a.dlq"] == Queue("a.dlq", True, {"x-queue-type": "classic"})


def test_each_retry_has_its_own_queue_and_returns_only_to_its_origin() -> None:
    found = compiled(queues={"payment": {"retry": ["500ms", "1m"], "dead_letter": "parked"}})
    by_name = queues(found)
    assert list(by_name) == ["payment", "parked", "payment.retry.500ms", "payment.retry.1m"]
    assert found.retry_delays["payment"].steps == ((0.5, "payment.retry.500ms"), (60.0, "payment.retry.1m"))
    assert by_name["payment.retry.1m"].arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": 60_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "payment",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_dead_lettering_by_the_broker_never_leads_to_a_retry_queue() -> None:
    found = compiled("a", queues={"a": {"retry": ["1s"]}})
    wait_queues = {name for ladder in found.retry_delays.values() for _, name in ladder.steps}
    assert policies(found)["fastcommerce.queue.a"]["dead-letter-routing-key"] not in wait_queues


def test_a_classic_queue_gets_no_settings_of_quorum_queues_but_its_retry_queues_lose_no_message() -> None:
    found = compiled("a", queues={"a": {"type": "classic", "retry": ["1s"]}})
    by_name = queues(found)
    assert set(policies(found)["fastcommerce.queue.a"]) == {"dead-letter-exchange", "dead-letter-routing-key"}
    assert by_name["a"].arguments == {"x-queue-type": "classic"}
    assert by_name["a.retry.1s"].arguments["x-queue-type"] == "quorum"
    assert by_name["a.retry.1s"].arguments["x-dead-letter-strategy"] == "at-least-once"


def test_two_queues_may_share_a_dead_letter_queue() -> None:
    found = compiled(queues={"a": {"dead_letter": "parked"}, "b": {"dead_letter": "parked"}})
    assert [queue.name for queue in found.queues] == ["a", "b", "parked"]


def test_an_explicit_dead_letter_queue_is_declared_as_written() -> None:
    found = compiled(queues={"a": {"dead_letter": "parked"}, "parked": {"arguments": {"x-max-length": 9}}})
    assert queues(found)["parked"] == Queue("parked", True, {"x-queue-type": "quorum", "x-max-length": 9})


def test_a_consumed_dead_letter_queue_gets_one_dead_letter_queue_of_its_own() -> None:
    found = compiled("a", "a.dlq", queues={"a": {}})
    assert [queue.name for queue in found.queues] == ["a", "a.dlq", "a.dlq.dlq"]
    assert found.retry_delays["a.dlq"] == RetryDelays((), "a.dlq.dlq")


def test_written_arguments_and_policy_keys_take_precedence_over_ours() -> None:
    settings = {"arguments": {"x-delivery-limit": 7}, "policy": {"max-length": 10, "overflow": "drop-head"}}
    found = compiled("a", queues={"a": settings})
    assert queues(found)["a"].arguments["x-delivery-limit"] == 7
    policy = policies(found)["fastcommerce.queue.a"]
    assert "delivery-limit" not in policy
    assert (policy["max-length"], policy["overflow"]) == (10, "drop-head")


def test_a_generated_policy_contains_the_written_one_that_it_hides_and_no_other() -> None:
    found = compiled(
        "a",
        queues={"a": {}, "b": {}},
        policies={
            "cap": {"pattern": "^a", "definition": {"max-length": 5, "overflow": "drop-head"}, "priority": 2},
            "lower": {"pattern": "", "definition": {"expires": 1000}, "priority": 1},
            "lazy": {"pattern": "", "definition": {"queue-mode": "lazy"}, "priority": 3},
            "elsewhere": {"pattern": "", "apply_to": "exchanges", "definition": {"alternate-exchange": "x"}},
        },
    )
    policy = policies(found)["fastcommerce.queue.a"]
    # "lazy" is not for quorum queues, so the broker ignores it. The settings of the retry delays take precedence.
    assert (policy["max-length"], policy["overflow"]) == (5, "reject-publish")
    assert not {"expires", "queue-mode", "alternate-exchange"} & set(policy)
    # That queue drops no messages by itself, so it gets a limit, a dead-letter queue, and its settings of
    # topology.yaml.
    assert policies(found)["fastcommerce.queue.b"] == {"expires": 1000, **PARKING, "dead-letter-routing-key": "b.dlq"}
    assert max(found.policies, key=lambda one: one.priority).name == "fastcommerce.queue.a"


def test_if_policies_cannot_be_set_their_keys_become_arguments() -> None:
    topology = Topology.model_validate(
        {
            "exchanges": {"e": {"alternate_exchange": "u"}, "u": {"type": "fanout"}},
            "queues": {"a": {"policy": {"max-length": 5}}},
            "policies": {"cap": {"pattern": "", "definition": {"max-length": 9}}},
        }
    )
    found = compile_topology(topology, {"a"}, with_policies=False)
    assert found.policies == ()
    assert found.exchanges[0].arguments == {"alternate-exchange": "u"}
    assert queues(found)["a"].arguments == {
        "x-queue-type": "quorum",
        "x-max-length": 5,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "a.dlq",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_a_repeated_binding_is_declared_once() -> None:
    found = compiled(
        exchanges={"e": {}},
        queues={"a": {"bind": {"e": ["k"]}}},
        bindings=[{"source": "e", "destination": "a", "routing_key": "k"}],
    )
    assert found.bindings == (Binding("e", "a", "queue", "k"),)


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_durable_is_set_by_the_queue_or_else_by_the_default(default: bool, own: bool | None, expected: bool) -> None:
    found = compiled(
        defaults={"durable": default, "queue_type": "classic"},
        exchanges={"e": {"durable": own}},
        queues={"a": {"durable": own, "retry": ["1s"]}},
    )
    by_name = queues(found)
    assert (found.exchanges[0].durable, by_name["a"].durable, by_name["a.retry.1s"].durable) == (expected,) * 3


def test_queues_are_declared_before_their_bindings() -> None:
    found = compiled(exchanges={"e": {}}, queues={"a": {"bind": {"e": ["#"]}}})
    assert {binding.destination for binding in found.bindings} <= set(queues(found))
