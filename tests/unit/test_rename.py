"""A queue with ``formerly``: its plan, the reasons to wait, and the data that follow it to the new name."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from runner.admin.apply import apply
from runner.admin.drain import MessagesDeleted
from runner.config.topology_file import Topology
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.origins import Origins
from runner.errors import RunnerError
from runner.headers import renamed_headers
from runner.ledger.live_topology import own_queues
from runner.ledger.recorded_fates import fates, inbox_events, inboxes
from runner.topology.compile import compile_topology, path_of
from runner.topology.consent import REPLACED_SERVICES, Consent, decide
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Policy, Queue
from runner.topology.plan import Change, Decision, Mark, Plan, change_line
from runner.topology.planner import make_plan
from tests.broker_model import BrokerModel
from tests.running import plain

BEFORE: dict[str, Any] = {
    "exchanges": {"e": {}},
    "queues": {"old": {"bind": {"e": ["a", "b"]}, "retry": ["1s", "5s"]}},
}
AFTER: dict[str, Any] = {
    "exchanges": {"e": {}},
    "queues": {"new": {"bind": {"e": ["a", "c"]}, "retry": ["1s"], "formerly": "old"}},
}
FAMILY = {"new", "new.retry.1s", "new.dlq"}


def planned(live: Live, written: dict[str, Any]) -> tuple[Plan, Any]:
    topology = Topology.model_validate(written)
    objects = compile_topology(topology)
    return make_plan(objects, live, topology.retire), objects


def run(broker: BrokerModel, written: dict[str, Any], consent: Consent | None = None) -> tuple[Decision, list[str]]:
    live = broker.live()
    plan, objects = planned(live, written)
    decision = decide(plan, objects, live, consent or Consent())
    done: list[Change] = []
    apply(decision, live, broker, did=done.append)
    return decision, [change_line(one) for one in done]


@pytest.fixture
def broker() -> BrokerModel:
    one = BrokerModel()
    run(one, BEFORE)
    return one


def bound(broker: BrokerModel) -> set[tuple[str, str]]:
    return {(one.destination, one.routing_key) for one in broker.bindings.values()}


def renames(broker: BrokerModel, written: dict[str, Any]) -> list[str]:
    return [change_line(one) for one in planned(broker.live(), written)[0].of(Mark.RENAME)]


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        ({}, "0 messages move"),
        ({"old": [1]}, "1 message moves"),
        ({"old": [1, 2], "old.retry.5s": [3], "old.dlq": [4]}, "4 messages move"),
    ],
)
def test_the_plan_counts_the_messages_that_move(broker: BrokerModel, messages: dict[str, list[int]], line: str) -> None:
    broker.messages |= messages
    assert renames(broker, AFTER) == [f"> queue    rename old -> new  {line}"]
    plan = planned(broker.live(), AFTER)[0]
    assert plan.exit_code == 2
    assert [one.name for one in plan.of(Mark.UNMANAGED)] == [], "a moving message does not remain"
    assert plan.surplus == ""


def test_a_whole_queue_moves_and_the_next_plan_is_empty(broker: BrokerModel) -> None:
    broker.messages |= {"old": [1, 2], "old.retry.1s": [3], "old.retry.5s": [4], "old.dlq": [5]}
    foreign = Binding("e", "old", "queue", "theirs")
    broker.bindings[foreign.key] = foreign
    since = dict(broker.remembered.since)
    _, lines = run(broker, AFTER)
    assert "> queue    rename old -> new" in lines
    assert set(broker.queues) == FAMILY
    assert bound(broker) == {("new", "a"), ("new", "c"), ("new", "theirs")}
    # A removed delay has no retry queue, so its message is handled at once.
    assert broker.messages == {"new": [4, 1, 2], "new.retry.1s": [3], "new.dlq": [5]}
    changes = planned(broker.live(), AFTER)[0].changes
    assert [change_line(one) for one in changes] == ["? binding  e -(theirs)-> new"]
    owned = broker.remembered
    assert owned.queues == FAMILY
    assert {key[2] for key in owned.bindings} == {"new"}
    # Earlier events count for the queue, because its earlier binding delivered them.
    assert owned.since[Binding("e", "new", "queue", "a").key] == since[Binding("e", "old", "queue", "a").key]
    assert owned.renamed == {"old": "new"}


def test_former_names_outlive_the_line_and_are_forgotten_with_their_queue(
    broker: BrokerModel,
) -> None:
    run(broker, AFTER)
    again = copy.deepcopy(AFTER)
    del again["queues"]["new"]["formerly"]
    run(broker, again)
    assert broker.remembered.renamed == {"old": "new"}
    again["queues"]["newest"] = again["queues"].pop("new") | {"formerly": "new"}
    run(broker, again)
    assert broker.remembered.renamed == {"old": "newest", "new": "newest"}
    del again["queues"]["newest"]
    run(broker, again | {"retire": {"queues": ["newest"]}}, Consent(retire=True))
    assert "newest" not in broker.queues
    assert broker.remembered.renamed == {}


def test_a_rename_that_could_not_be_remembered_is_remembered_by_the_next_run(broker: BrokerModel) -> None:
    run(broker, AFTER)
    broker.remembered = replace(broker.remembered, renamed={})
    run(broker, AFTER)
    assert broker.remembered.renamed == {"old": "new"}


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ("ab", {"a": "b"}),
        ("abc", {"a": "c", "b": "c"}),
        ("aba", {"b": "a"}),
        ("abcb", {"a": "b", "c": "b"}),
        ("abca", {"b": "a", "c": "a"}),
    ],
)
def test_each_former_name_leads_to_the_present_one(steps: str, names: dict[str, str]) -> None:
    owned = Owned()
    for old, new in itertools.pairwise(steps):
        owned = owned.with_rename(old, new)
    assert owned.renamed == names
    assert Owned.from_json(owned.to_json()).renamed == names
    # A version that remembered no names wrote this.
    assert Owned.from_json({key: value for key, value in owned.to_json().items() if key != "renamed"}).renamed == {}


def test_while_services_are_replaced_the_old_queue_gets_all_messages_for_the_new_one(broker: BrokerModel) -> None:
    broker.messages["old"] += [1]
    decision, lines = run(broker, AFTER, Consent(removals=False))
    assert not decision.held
    left = {one.change.name for one in decision.left}
    assert {one.waits_for for one in decision.left} == {REPLACED_SERVICES}
    assert left == {"old", "e -(a)-> new", "e -(c)-> new"}
    assert bound(broker) == {("old", "a"), ("old", "b"), ("old", "c")}
    assert "+ queue    new  quorum" in lines
    assert Binding("e", "old", "queue", "c").key in broker.remembered.bindings, (
        "ours, so that it is deleted with the others"
    )
    _, lines = run(broker, AFTER)
    assert bound(broker) == {("new", "a"), ("new", "c")}
    assert broker.messages["new"] == [1]
    assert {key[2] for key in broker.remembered.bindings} == {"new"}


@pytest.mark.parametrize("part", ["old", "old.retry.1s", "old.dlq", "fastcommerce.queue.old"])
def test_an_interrupted_rename_continues_with_the_rest(broker: BrokerModel, part: str) -> None:
    order = ["old.retry.1s", "old.retry.5s", "old", "fastcommerce.queue.old", "old.dlq"]
    run(broker, AFTER, Consent(removals=False))
    for name in order[: order.index(part)]:
        if name in broker.queues:
            broker.delete_queue(broker.queues[name])
        else:
            broker.delete_policy(name)
    assert len(renames(broker, AFTER)) == 1
    run(broker, AFTER)
    assert set(broker.queues) == FAMILY
    assert set(broker.policies) == {"fastcommerce.queue.new"}
    assert renames(broker, AFTER) == []


def test_a_queue_whose_new_name_needs_a_replacement_keeps_its_old_name_and_bindings(broker: BrokerModel) -> None:
    broker.queues["new"], broker.messages["new"] = Queue("new", True, {"x-queue-type": "classic"}), [7]
    before = bound(broker)
    decision, _ = run(broker, AFTER)
    assert ("queue", "new") in decision.held, "its service continues unchanged"
    assert bound(broker) == before
    assert {one.change.name for one in decision.left if one.waits_for == "queue 'new'"} >= {"old", "e -(a)-> new"}
    run(broker, AFTER, Consent(frozenset({"new"}), drain=True))
    assert "old" not in broker.queues
    assert bound(broker) == {("new", "a"), ("new", "c")}


def test_a_queue_keeps_its_name_while_an_exchange_that_it_is_bound_to_is_held_back(broker: BrokerModel) -> None:
    before = bound(broker)
    decision, _ = run(broker, AFTER | {"exchanges": {"e": {"type": "fanout"}}})
    assert bound(broker) == before
    assert ("queue", "new") in decision.held


def test_parts_move_even_if_the_broker_remembers_none_as_ours(broker: BrokerModel) -> None:
    broker.messages |= {"old.retry.1s": [1], "old.dlq": [2]}
    broker.remembered = Owned()
    run(broker, AFTER)
    assert set(broker.queues) == FAMILY
    assert (broker.messages["new.retry.1s"], broker.messages["new.dlq"]) == ([1], [2])


def test_an_undone_rename_leaves_the_old_queue_unchanged(broker: BrokerModel) -> None:
    before = broker.live()
    run(broker, AFTER, Consent(removals=False))
    limit = Policy("fastcommerce.drain.old", "^old$", "queues", {"delivery-limit": 9}, 2000)
    broker.put_policy(limit)
    run(broker, BEFORE)
    assert "fastcommerce.drain.old" not in broker.policies
    assert broker.queues["old"] == before.queues["old"].queue
    assert bound(broker) == {("old", "a"), ("old", "b")}


class Busy(BrokerModel):
    """A broker on which a queue cannot be deleted at first."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost, self.is_busy = lost, True

    def _move_messages(
        self, url: str, source: str, target: str, say: object, *, delete: str | None = None, **options: object
    ) -> int:
        if delete and source == "old" and self.is_busy:
            raise (MessagesDeleted if self.lost else RunnerError)("moving 'old' to 'new': another client reads it")
        return super()._move_messages(url, source, target, say, delete=delete, **options)


def test_a_queue_that_another_client_starts_to_consume_at_the_last_moment_is_left() -> None:
    broker = Busy(0)
    run(broker, BEFORE)
    live = broker.live()
    plan, objects = planned(live, AFTER)
    left = apply(decide(plan, objects, live, Consent()), live, broker)
    assert [plain(one.needs) for one in left if not one.is_implied] == [
        "moving 'old' to 'new': another client reads it; to continue: python -m runner apply"
    ]
    assert "old" in broker.queues
    assert "fastcommerce.drain.old" not in broker.policies
    broker.is_busy = False
    run(broker, AFTER)
    assert set(broker.queues) == FAMILY


def test_messages_that_were_deleted_with_the_queue_are_an_error() -> None:
    broker = Busy(2)
    run(broker, BEFORE)
    with pytest.raises(RunnerError, match="another client reads it"):
        run(broker, AFTER)


@pytest.mark.parametrize("other", ["old.retry.9s", "older", "old.dlq.copy", "x.old", "old.drain"])
def test_foreign_queues_with_such_names_are_kept(broker: BrokerModel, other: str) -> None:
    broker.queues[other], broker.messages[other] = Queue(other), [1]
    run(broker, AFTER)
    assert broker.messages[other] == [1]


def test_a_dead_letter_queue_that_another_queue_uses_is_kept(broker: BrokerModel) -> None:
    both = BEFORE["queues"] | {"other": {"dead_letter": "old.dlq"}}
    run(broker, BEFORE | {"queues": both})
    run(broker, AFTER | {"queues": AFTER["queues"] | {"other": {"dead_letter": "old.dlq"}}})
    assert {"old.dlq", "new.dlq"} <= set(broker.queues)
    assert "old" not in broker.queues


def test_a_rename_is_reported_at_the_line_of_formerly() -> None:
    topology = Topology.model_validate(AFTER)
    assert path_of(Queue("old"), topology) == ("queues", "new", "formerly")
    assert path_of(Binding("e", "old", "queue", "c"), topology) == ("queues", "new", "bind", "e", 1)


NAMES = {"old": "new", "old.retry.1s": "new.retry.1s"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"x-origin-queue": "old"}, {"x-origin-queue": "new"}),
        ({"x-origin-queue": "older"}, {"x-origin-queue": "older"}),
        ({"x-first-death-queue": "old.retry.1s"}, {"x-first-death-queue": "new.retry.1s"}),
        ({"x-death": [{"queue": "old", "count": 2}]}, {"x-death": [{"queue": "new", "count": 2}]}),
        ({"x-death": [5, {}, {"queue": b"old"}]}, {"x-death": [5, {}, {"queue": b"old"}]}),
        ({"x-death": "old", "queue": "old"}, {"x-death": "old", "queue": "old"}),
        ({"x-origin-queue": ["old"], "name": "old"}, {"x-origin-queue": ["old"], "name": "old"}),
    ],
)
def test_headers_with_the_old_queue_get_the_new_name(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert renamed_headers(before, NAMES) == after


@pytest.mark.parametrize("name", ["old", "old.retry.1s", "old.retry.7s"])
def test_a_dead_letter_with_the_old_queue_is_replayed_to_the_new_one(name: str) -> None:
    objects = compile_topology(Topology.model_validate(AFTER))
    assert Origins.of(objects).origin_of(DeadLetter("parked", {}, {"x-origin-queue": name}, b"")) == "new"
    assert Origins.of(objects).origin_of(DeadLetter("parked", {}, {"x-death": [{"queue": name}]}, b"")) == "new"
    assert Origins.of(objects).origin_of(DeadLetter("parked", {}, {"x-origin-queue": "x"}, b"")) == "x"


def test_data_under_the_old_name_count_for_the_new_one() -> None:
    event = b'[{"id": "e", "type": "t"}]'
    rows: dict[str, Sequence[Sequence[Any]]] = {
        "SELECT service, queue, message_id, done_at FROM inbox": [("s", "old", "1", 5), ("s", "new", "2", 7)],
        "SELECT queue, message_id, events, done_at FROM inbox": [("old", "1", event, 5)],
    }

    def read(statement: str, _: object) -> Sequence[Sequence[Any]]:
        tries = [(queue, id, "handled", 0, "t", None, 1, 2, "s", 1) for queue, id in (("old", "1"), ("new", "2"))]
        return rows.get(statement, tries)

    assert {key: dict(one.done) for key, one in inboxes(read, {"old": "new"}).items()} == {
        ("s", "new"): {"1": 5, "2": 7}
    }
    assert {queue: set(found) for queue, found in fates(read, {"old": "new"}).items()} == {"new": {"1", "2"}}
    assert [one.maker for one in inbox_events(read, {"old": "new"})] == [("new", "1")]


def test_messages_under_the_old_name_wait_for_the_new_queue(broker: BrokerModel) -> None:
    objects = compile_topology(Topology.model_validate(AFTER))
    assert own_queues("new", objects, broker.live())[:2] == ("old", "new")
    assert {"old.retry.1s", "old.retry.5s"} <= {*own_queues("new", objects, broker.live())}
    run(broker, AFTER)
    assert own_queues("new", objects, broker.live()) == ("new", "new.retry.1s")
