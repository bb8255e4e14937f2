"""Single steps of ``apply``: reports of partial failures, and policies that depend on the broker's version."""

from __future__ import annotations

from typing import Any

import pytest

from runner.admin.apply import apply
from runner.config.topology_file import Topology
from runner.errors import BrokerBlocked, BrokerRefused, BrokerUnreachable, RunnerError
from runner.topology.compile import compile_topology
from runner.topology.consent import Consent, decide
from runner.topology.live import Live, LiveQueue
from runner.topology.model import Objects, Queue
from runner.topology.planner import make_plan
from runner.topology.queue_limits import uncounted
from tests.broker_model import BrokerModel


def run(broker: BrokerModel, written: dict[str, Any], consent: Consent, said: list[str]) -> None:
    topology, live = Topology.model_validate(written), broker.live()
    objects = compile_topology(topology, version=live.version)
    decision = decide(make_plan(objects, live, topology.retire), objects, live, consent)
    apply(decision, live, broker, said.append)


class Failing(BrokerModel):
    """A broker that ends each declaration with an error."""

    def __init__(self, error: RunnerError) -> None:
        super().__init__()
        self.error = error

    def declare(self, _: Objects) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokerUnreachable("x"), BrokerBlocked("x"), BrokerRefused("x")])
def test_a_declaration_that_fails_half_way_is_reported(error: RunnerError) -> None:
    said: list[str] = []
    with pytest.raises(type(error)):
        run(Failing(error), {"exchanges": {"e": {}}, "queues": {"q": {}}}, Consent(), said)
    assert said == ["interrupted: some of the 3 changes may have been made; the next plan shows the rest"]


#: RabbitMQ 3.10 applies this policy to classic queues. Later versions ignore it.
BY_VERSION = {"pattern": "^q$", "definition": {"max-in-memory-length": 5, "max-length": 1}}


def test_a_policy_that_this_version_applies_precedes_its_new_queue() -> None:
    steps: list[str] = []
    broker = BrokerModel()
    broker.watch = steps.append
    run(broker, {"queues": {"q": {"type": "classic"}}, "policies": {"p": BY_VERSION}}, Consent(), [])
    assert steps.index("put policy p") < steps.index("declare q")


def test_a_replacement_has_the_limit_that_this_version_applies() -> None:
    broker = BrokerModel()
    run(broker, {"queues": {"q": {}}}, Consent(), [])
    broker.messages["q"] += [1, 2]
    written = {"queues": {"q": {"type": "classic"}}, "policies": {"p": BY_VERSION}}
    with pytest.raises(RunnerError, match="its max-length 1 has no room for 2 messages"):
        run(broker, written, Consent(frozenset({"q"}), drain=True), [])
    assert broker.messages["q"] == [1, 2]


def test_only_counts_that_the_plan_needs_are_requested() -> None:
    written: dict[str, Any] = {
        "queues": {
            "same": {"type": "classic"},
            "other": {"type": "classic"},
            "capped": {"type": "classic", "policy": {"max-length": 9}},
            "as.before": {"type": "classic", "policy": {"max-length": 9}},
        },
        "retire": {"queues": ["old"]},
    }
    topology = Topology.model_validate(written)
    objects = compile_topology(topology)
    there = {name: "classic" for name in ("same", "capped", "as.before", "old", "foreign")}
    there |= {"other": "quorum", "other.drain.new": "classic"}
    (policy,) = [one for one in objects.policies if one.name == "fastcommerce.queue.as.before"]
    queues = {name: LiveQueue(Queue(name, True, {"x-queue-type": kind}), None, None) for name, kind in there.items()}
    live = Live(version=(3, 10, 8), queues=queues, policies={policy.name: policy})
    asked = uncounted(make_plan(objects, live, topology.retire), objects, live)
    assert sorted(asked) == ["capped", "old", "other", "other.drain.new"]
    known = {name: LiveQueue(one.queue, 0, 0) for name, one in queues.items()}
    live = Live(version=(3, 10, 8), queues=known, policies={policy.name: policy})
    assert uncounted(make_plan(objects, live, topology.retire), objects, live) == ["other", "other.drain.new"], (
        "old counts"
    )
    known["other"] = LiveQueue(queues["other"].queue, 3, 0)
    live = Live(version=(3, 10, 8), queues=known, policies={policy.name: policy})
    assert uncounted(make_plan(objects, live, topology.retire), objects, live) == []
