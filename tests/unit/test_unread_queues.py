"""Quorum queues without a consumer: a delivery limit, and a dead-letter queue behind it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.config_file import ServiceSettings
from runner.config.queue_policy import DELIVERY_LIMIT
from runner.config.topology_file import Topology
from runner.deadletters.origins import Origins
from runner.topology.compile import compile_topology
from runner.topology.effective_settings import Policies
from runner.topology.graph import graph_of
from runner.topology.lint_rules import lint
from runner.topology.live import Live, LiveQueue
from runner.topology.model import Objects, Policy, Queue
from runner.topology.planner import make_plan
from runner.topology.queue_limits import at_default_limit

PARKED = {
    "dead-letter-exchange": "",
    "dead-letter-routing-key": "q.dlq",
    "delivery-limit": DELIVERY_LIMIT,
    "dead-letter-strategy": "at-least-once",
    "overflow": "reject-publish",
}


def compiled(*consumed: str, **topology: Any) -> Objects:
    return compile_topology(Topology.model_validate(topology), consumed)


def settings(objects: Objects, name: str = "q") -> dict[str, Any]:
    (queue,) = [one for one in objects.queues if one.name == name]
    return Policies(objects.policies).settings_of(queue)


def names(objects: Objects) -> set[str]:
    return {one.name for one in objects.queues}


@pytest.mark.parametrize(
    ("queue", "policies", "expected", "has_place"),
    [
        ({}, {}, PARKED, True),
        ({"arguments": {"x-delivery-limit": 5}}, {}, PARKED | {"delivery-limit": 5}, True),
        ({"policy": {"delivery-limit": 5}}, {}, PARKED | {"delivery-limit": 5}, True),
        ({}, {"delivery-limit": 5}, PARKED | {"delivery-limit": 5}, True),
        ({"arguments": {"x-single-active-consumer": True}}, {}, PARKED | {"single-active-consumer": True}, True),
        ({"policy": {"expires": 60000}}, {}, PARKED | {"expires": 60000}, True),
        # It already has a dead-letter exchange.
        (
            {"arguments": {"x-dead-letter-exchange": "dlx"}},
            {},
            {"dead-letter-exchange": "dlx", "delivery-limit": DELIVERY_LIMIT},
            False,
        ),
        (
            {},
            {"dead-letter-exchange": "dlx"},
            {"dead-letter-exchange": "dlx", "delivery-limit": DELIVERY_LIMIT},
            False,
        ),
        # It drops messages by itself. Otherwise another queue would fill, or it would refuse messages that it accepted.
        ({"policy": {"max-length": 9}}, {}, {"max-length": 9, "delivery-limit": DELIVERY_LIMIT}, False),
        ({"arguments": {"x-message-ttl": 9}}, {}, {"message-ttl": 9, "delivery-limit": DELIVERY_LIMIT}, False),
        ({}, {"max-length-bytes": 9}, {"max-length-bytes": 9, "delivery-limit": DELIVERY_LIMIT}, False),
        # Its settings ask for no limit.
        ({"arguments": {"x-delivery-limit": -1}}, {}, {"delivery-limit": -1}, False),
        ({}, {"delivery-limit": -1}, {"delivery-limit": -1}, False),
    ],
)
def test_a_quorum_queue_without_a_consumer_has_a_limit_and_a_dead_letter_queue(
    queue: dict[str, Any], policies: dict[str, Any], expected: dict[str, Any], has_place: bool
) -> None:
    written = {"own": {"pattern": "^q$", "definition": policies}} if policies else {}
    found = compiled(queues={"q": queue}, policies=written)
    assert settings(found) == expected
    assert ("q.dlq" in names(found)) == has_place
    assert ("q" in found.retry_delays) == has_place


def test_a_quorum_queue_that_keeps_dead_letters_has_a_dead_letter_queue_behind_it() -> None:
    found = compiled("work", queues={"work": {"dead_letter": "kept"}, "kept": {}})
    assert settings(found, "kept")["dead-letter-routing-key"] == "kept.dlq"
    (behind,) = [one for one in found.queues if one.name == "kept.dlq"]
    assert behind.type == "classic"


def test_classic_queues_streams_and_retry_queues_stay_as_they_are() -> None:
    found = compiled("work", queues={"work": {"retry": ["1s"]}, "c": {"type": "classic"}, "s": {"type": "stream"}})
    assert names(found) == {"work", "work.retry.1s", "work.dlq", "c", "s"}
    (waiting,) = [one for one in found.queues if one.name == "work.retry.1s"]
    assert "x-delivery-limit" not in waiting.arguments
    assert [one.name for one in found.policies] == ["fastcommerce.queue.work"]


def test_without_policies_an_existing_queue_needs_no_replacement() -> None:
    found = compile_topology(Topology.model_validate({"queues": {"q": {}}}), with_policies=False)
    assert found.queues == (Queue("q", True, {"x-queue-type": "quorum"}),)


def test_an_existing_system_gets_a_queue_and_a_policy_in_place() -> None:
    objects = compiled(queues={"q": {}})
    live = Live(version=(4, 0, 5), queues={"q": LiveQueue(Queue("q", True, {"x-queue-type": "quorum"}), 7)})
    plan = make_plan(objects, live, Topology().retire)
    assert {(one.mark.value, one.kind, one.name) for one in plan.changes} == {
        ("+", "queue", "q.dlq"),
        ("+", "policy", "fastcommerce.queue.q"),
    }
    assert plan.problems == ()


def test_the_tools_know_the_dead_letter_queue() -> None:
    topology = {"exchanges": {"e": {}}, "queues": {"q": {"bind": {"e": ["a"]}}}}
    objects = compiled(**topology)
    services = {"shop": ServiceSettings.model_validate({"publishes": {"e": ["a"]}})}
    edges = {(one.source, one.target, one.label, one.is_dashed) for one in graph_of(objects, services).edges}
    assert ("queue q", "queue q.dlq", "dead letters", True) in edges
    assert Origins.of(objects).origins == {"q.dlq": ("q",)}
    codes = [(one.code, one.name) for one in lint(Topology.model_validate(topology), services)]
    assert codes == [("unread-queue", "q")]


@pytest.mark.parametrize(
    ("queues", "policies", "expected"),
    [
        ({"q": {}}, {}, ["q"]),
        ({"q": {}, "r": {}, "c": {"type": "classic"}, "s": {"type": "stream"}}, {}, ["q", "r"]),
        ({"q": {"policy": {"max-length": 9}}}, {}, ["q"]),
        ({"q": {"arguments": {"x-dead-letter-exchange": "dlx"}}}, {}, ["q"]),
        # It has a limit, or a person wants none.
        ({"q": {"arguments": {"x-delivery-limit": 5}}}, {}, []),
        ({"q": {"policy": {"delivery-limit": 5}}}, {}, []),
        ({"q": {"arguments": {"x-delivery-limit": -1}}}, {}, []),
        ({"q": {"retry": ["1s"]}}, {}, []),
        ({"q": {"dead_letter": "lost"}}, {}, []),
        # An administrator has set it.
        ({"q": {}}, {"q": {"delivery-limit": 7}}, []),
        ({"q": {}}, {"q": {"max-length": 7}}, ["q"]),
    ],
)
def test_a_quorum_queue_at_the_default_limit_is_named_if_no_policies_can_be_set(
    queues: dict[str, Any], policies: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    topology = Topology.model_validate({"queues": queues})
    there = {name: Policy(name, f"^{name}$", "queues", one) for name, one in policies.items()}
    on_broker = {name: LiveQueue(Queue(name, True, {"x-queue-type": "quorum"})) for name in policies}
    for version, names in (((3, 13, 7), []), ((4, 0, 5), expected), ((4, 3, 6), expected)):
        live = Live(version=version, policies=there, queues=on_broker)
        wanted, objects = compile_topology(topology, version=version), compile_topology(topology, with_policies=False)
        found = list(at_default_limit(objects, wanted, live))
        assert [queue.name for queue, _ in found] == names
        assert all("drops a message at its 21st delivery" in line for _, line in found)
