"""Objects of an earlier topology.yaml that the current one lacks: reported in one line, deleted by --prune."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.admin.apply import apply
from runner.config.topology_file import Topology
from runner.topology.compile import compile_topology
from runner.topology.consent import Consent, decide
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Exchange, Policy, Queue
from runner.topology.plan import Mark, Plan
from runner.topology.planner import make_plan
from tests.broker_model import BrokerModel
from tests.running import plain

BASE: dict[str, Any] = {
    "exchanges": {"orders": {}},
    "queues": {"pay": {"bind": {"orders": ["order.#"]}, "retry": ["1s", "5s"]}},
}
#: The additions of an exercise, which the test removes from the file again.
EXERCISE: dict[str, Any] = {
    "exchanges": {**BASE["exchanges"], "eu": {}},
    "queues": {**BASE["queues"], "eu.orders": {"bind": {"orders": ["*.eu"], "eu": ["#"]}, "retry": ["1s"]}},
    "policies": {"cap": {"pattern": "^eu", "definition": {"max-length": 9}}},
}


def plan_of(live: Live, written: dict[str, Any], *, prune: bool = False) -> Plan:
    topology = Topology.model_validate(written)
    return make_plan(compile_topology(topology), live, topology.retire, prune=prune)


def run(broker: BrokerModel, written: dict[str, Any], *, prune: bool = True) -> list[str]:
    """Apply a topology. Return the reasons for remaining and kept objects."""
    objects, live = compile_topology(Topology.model_validate(written)), broker.live()
    plan = plan_of(live, written, prune=prune)
    left = apply(decide(plan, objects, live, Consent(retire=True)), live, broker)
    return [f"{one.change.name}: {one.needs}" for one in left] + [f"{name}: {why}" for name, why in plan.kept]


def names(live: Live) -> set[str]:
    return {*live.exchanges, *live.queues, *live.policies}


@pytest.fixture
def broker() -> BrokerModel:
    one = BrokerModel()
    assert run(one, BASE) == []
    assert run(one, EXERCISE) == []
    assert run(one, BASE, prune=False) == []
    assert {"eu.orders", "eu.orders.retry.1s", "eu.orders.dlq", "eu", "cap"} <= names(one.live())
    return one


def test_an_undone_exercise_is_one_line_that_names_the_growing_queue(broker: BrokerModel) -> None:
    plan = plan_of(broker.live(), BASE)
    assert plain(plan.surplus) == (
        "3 objects are no longer in topology.yaml and still on the broker: queue eu.orders (still gets messages from"
        " eu, orders), exchange eu, policy cap; to unbind the queues and delete all empty objects: python -m runner"
        " apply --prune"
    )
    assert plan.fills_up
    whys = {one.name: one.why for one in plan.of(Mark.UNMANAGED)}
    assert whys["eu.orders"] == (
        "no longer in topology.yaml; apply --prune unbinds it, and deletes it once it is empty"
    )
    assert whys["cap"] == whys["eu.orders.dlq"] == "no longer in topology.yaml; apply --prune deletes it"


def test_prune_leaves_nothing_of_an_undone_exercise(broker: BrokerModel) -> None:
    fresh = BrokerModel()
    run(fresh, BASE)
    assert run(broker, BASE) == []
    assert names(broker.live()) == names(fresh.live())
    assert broker.bindings.keys() == fresh.bindings.keys()
    assert broker.remembered == fresh.remembered
    assert plan_of(broker.live(), BASE).surplus == ""


def test_without_prune_no_part_of_it_is_touched(broker: BrokerModel) -> None:
    before = broker.live()
    assert run(broker, BASE, prune=False) == []
    assert broker.live() == before


def test_a_queue_with_messages_is_unbound_and_kept_and_deleted_when_it_is_empty(broker: BrokerModel) -> None:
    broker.messages["eu.orders"] += [1, 2]
    assert run(broker, BASE) == ["eu.orders: kept, it holds messages"]
    assert {"eu.orders", "eu.orders.dlq"} <= broker.queues.keys()
    assert broker.messages["eu.orders"] == [1, 2]
    assert [key for key in broker.bindings if key[2] == "eu.orders"] == []
    plan = plan_of(broker.live(), BASE)
    assert not plan.fills_up
    assert "queue eu.orders;" in plan.surplus
    broker.messages["eu.orders"].clear()
    assert run(broker, BASE) == []
    assert "eu.orders" not in names(broker.live())


def test_dead_letters_are_kept_although_their_queue_is_deleted(broker: BrokerModel) -> None:
    broker.messages["eu.orders.dlq"].append(1)
    assert run(broker, BASE) == ["eu.orders.dlq: kept, it holds messages"]
    assert "eu.orders" not in broker.queues
    assert broker.messages["eu.orders.dlq"] == [1]


def with_consumer(live: Live) -> Live:
    queues = {**live.queues, "eu.orders": replace(live.queues["eu.orders"], consumers=2)}
    return replace(live, queues=queues)


def with_unknown_consumers(live: Live) -> Live:
    queues = {**live.queues, "eu.orders": replace(live.queues["eu.orders"], consumers=None)}
    return replace(live, queues=queues)


FOREIGN = [
    (Binding("eu", "theirs"), {"eu"}, "exchange 'eu': another client created the binding eu -> theirs"),
    (
        Binding("theirs", "eu", "exchange"),
        {"eu"},
        "exchange 'eu': another client created the binding theirs -> exchange eu",
    ),
    (
        Binding("theirs", "eu.orders", "queue", "k"),
        # The exchange is kept too, because it routes messages to a kept queue.
        {"eu", "eu.orders", "eu.orders.dlq", "eu.orders.retry.1s"},
        "queue 'eu.orders': another client created the binding theirs -(k)-> eu.orders",
    ),
]


@pytest.mark.parametrize(("binding", "stay", "reason"), FOREIGN, ids=["from", "to", "queue"])
def test_an_object_that_another_client_has_bound_is_kept_unchanged(
    broker: BrokerModel, binding: Binding, stay: set[str], reason: str
) -> None:
    broker.exchanges["theirs"], broker.queues["theirs"] = Exchange("theirs", "topic"), Queue("theirs")
    broker.messages["theirs"] = []
    broker.bindings[binding.key] = binding
    bound = {key for key in broker.bindings if key[2] in stay}
    assert reason in run(broker, BASE)
    assert stay <= names(broker.live())
    assert bound <= broker.bindings.keys()


@pytest.mark.parametrize(
    ("seen", "reason"),
    [(with_consumer, "it has 2 consumers"), (with_unknown_consumers, "it has an unknown number of consumers")],
)
def test_a_consumed_queue_stays_bound_with_its_parts(broker: BrokerModel, seen: Any, reason: str) -> None:
    plan = plan_of(seen(broker.live()), BASE, prune=True)
    assert ("queue 'eu.orders'", reason) in plan.kept
    gone = {one.name for one in plan.of(Mark.RETIRE)}
    assert not {one for one in gone if "eu.orders" in one}, "its bindings, policy, retry and dead-letter queues stay"


def test_foreign_objects_are_never_deleted(broker: BrokerModel) -> None:
    broker.exchanges["x"], broker.queues["eu.other"] = Exchange("x", "topic"), Queue("eu.other")
    broker.queues["eu.orders.retry.9s"] = Queue("eu.orders.retry.9s")
    broker.messages |= {"eu.other": [], "eu.orders.retry.9s": []}
    broker.policies["theirs"] = Policy("theirs", "^x", "exchanges", {"alternate-exchange": "y"})
    # Our policy limits a queue of another client, so it is kept too.
    assert run(broker, BASE) == ["policy 'cap': the policy applies to another client's queue 'eu.orders.retry.9s'"]
    assert {"x", "eu.other", "eu.orders.retry.9s", "theirs", "cap"} <= names(broker.live())
    assert "eu.orders" not in broker.queues


def test_if_the_broker_remembers_no_objects_of_ours_none_are_deleted(broker: BrokerModel) -> None:
    broker.remembered = Owned()
    before = names(broker.live())
    assert run(broker, BASE) == []
    assert names(broker.live()) == before


def test_an_exchange_that_dead_letters_of_the_file_still_reach_is_kept(broker: BrokerModel) -> None:
    other = {"type": "classic", "policy": {"dead-letter-exchange": "eu"}}
    left = run(broker, BASE | {"queues": {**BASE["queues"], "other": other}})
    assert left == ["exchange 'eu': queue 'other' refers to it"]
    assert "eu" in broker.exchanges


def test_an_exchange_that_another_client_has_as_its_alternate_exchange_is_kept(broker: BrokerModel) -> None:
    broker.exchanges["theirs"] = Exchange("theirs", "topic", arguments={"alternate-exchange": "eu"})
    assert "exchange 'eu': exchange 'theirs' refers to it" in run(broker, BASE)
    assert "eu" in broker.exchanges


def test_the_retry_queue_of_a_removed_delay_and_a_former_dead_letter_queue_are_deleted(broker: BrokerModel) -> None:
    written = BASE | {"queues": {"pay": BASE["queues"]["pay"] | {"retry": ["1s"], "dead_letter": "parked"}}}
    broker.messages["pay.dlq"].append(1)
    assert run(broker, written) == ["pay.dlq: kept, it holds messages"]
    assert "pay.retry.5s" not in broker.queues
    broker.messages["pay.dlq"].clear()
    assert run(broker, written) == []
    assert set(broker.queues) == {"pay", "pay.retry.1s", "parked"}


def test_the_line_names_three_objects_and_counts_the_others() -> None:
    broker = BrokerModel()
    run(broker, BASE | {"queues": {f"q{number}": {} for number in range(5)}})
    line = plan_of(broker.live(), {"exchanges": {"orders": {}}}).surplus
    assert line.startswith("5 objects are no longer in topology.yaml and still on the broker: queue q0, queue q1, ")
    assert "queue q2, and 2 more; to unbind the queues" in line
    assert plan_of(broker.live(), {"queues": {f"q{number}": {} for number in range(5)}}).surplus.startswith(
        "1 object is"
    )
