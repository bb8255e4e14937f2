"""Queues under ``retire``, with the parts that belong only to them."""

from __future__ import annotations

from typing import Any

import pytest

from runner.admin.apply import apply
from runner.config.topology_file import Topology
from runner.topology.compile import compile_topology
from runner.topology.consent import Consent, decide
from runner.topology.plan import Mark
from runner.topology.planner import make_plan
from tests.broker_model import BrokerModel

BEFORE: dict[str, Any] = {"exchanges": {"e": {}}, "queues": {"q": {"bind": {"e": ["a"]}}, "other": {}}}


def run(broker: BrokerModel, written: dict[str, Any], *consumed: str) -> list[str]:
    """Apply a topology. Return the reasons of the remaining objects."""
    topology = Topology.model_validate(written)
    objects, live = compile_topology(topology, consumed), broker.live()
    decision = decide(make_plan(objects, live, topology.retire), objects, live, Consent(retire=True))
    return [f"{one.change.name}: {one.needs}" for one in apply(decision, live, broker)]


def retiring(**queues: Any) -> dict[str, Any]:
    return {"exchanges": {"e": {}}, "queues": {"other": {}, **queues}, "retire": {"queues": ["q"]}}


@pytest.fixture
def broker() -> BrokerModel:
    one = BrokerModel()
    assert run(one, BEFORE) == []
    assert set(one.queues) == {"q", "q.dlq", "other", "other.dlq"}
    return one


def test_an_empty_dead_letter_queue_is_deleted_with_its_queue(broker: BrokerModel) -> None:
    assert run(broker, retiring()) == []
    assert set(broker.queues) == {"other", "other.dlq"}
    assert "q.dlq" not in broker.remembered.queues


def test_dead_letters_are_kept_with_the_reason_until_they_are_removed(broker: BrokerModel) -> None:
    broker.messages["q.dlq"].append(1)
    assert run(broker, retiring()) == ["q.dlq: kept, it holds messages"]
    assert set(broker.queues) == {"q.dlq", "other", "other.dlq"}
    broker.messages["q.dlq"].clear()
    assert run(broker, retiring()) == []
    assert "q.dlq" not in broker.queues


def test_a_queue_that_is_kept_keeps_its_dead_letter_queue(broker: BrokerModel) -> None:
    broker.messages["q"].append(1)
    assert run(broker, retiring()) == ["q: kept, it holds messages"]
    assert {"q", "q.dlq"} <= set(broker.queues)
    assert "fastcommerce.queue.q" in broker.policies


def test_a_dead_letter_queue_that_another_queue_uses_is_kept(broker: BrokerModel) -> None:
    assert run(broker, retiring(other={"dead_letter": "q.dlq"})) == []
    assert "q.dlq" in broker.queues


def test_a_dead_letter_queue_that_another_topology_uses_is_kept(broker: BrokerModel) -> None:
    run(broker, BEFORE | {"queues": {**BEFORE["queues"], "other": {"dead_letter": "q.dlq"}}})
    written = retiring()
    del written["queues"]["other"]
    assert run(broker, written) == []
    assert "q.dlq" in broker.queues


@pytest.mark.parametrize("queue", [{"type": "quorum"}, {"type": "classic", "arguments": {"x-max-length": 9}}])
def test_a_dead_letter_queue_that_a_person_wrote_is_kept(queue: dict[str, Any]) -> None:
    broker = BrokerModel()
    run(broker, {"queues": {"q": {}, "q.dlq": queue}})
    assert run(broker, {"queues": {}, "retire": {"queues": ["q"]}}) == []
    assert "q" not in broker.queues
    assert "q.dlq" in broker.queues


def test_a_dead_letter_queue_with_a_binding_is_kept(broker: BrokerModel) -> None:
    run(broker, {**BEFORE, "bindings": [{"source": "e", "destination": "q.dlq"}]})
    assert run(broker, retiring() | {"bindings": [{"source": "e", "destination": "q.dlq"}]}) == []
    assert "q.dlq" in broker.queues


def test_a_dead_letter_queue_without_an_owner_of_ours_is_kept(broker: BrokerModel) -> None:
    broker.remembered = type(broker.remembered)()
    assert run(broker, retiring()) == []
    assert "q" not in broker.queues
    assert "q.dlq" in broker.queues


def test_without_consent_nothing_is_deleted(broker: BrokerModel) -> None:
    topology = Topology.model_validate(retiring())
    objects, live = compile_topology(topology), broker.live()
    plan = make_plan(objects, live, topology.retire)
    assert {one.name for one in plan.of(Mark.RETIRE) if one.kind == "queue"} == {"q", "q.dlq"}
    assert apply(decide(plan, objects, live, Consent()), live, broker)
    assert {"q", "q.dlq"} <= set(broker.queues)
