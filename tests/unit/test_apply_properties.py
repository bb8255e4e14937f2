"""Random pairs of topologies and random consent, with invariants after each step of ``apply`` and at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.admin.apply import apply
from runner.config.topology_file import Topology
from runner.errors import BrokerUnreachable
from runner.topology.compile import compile_topology
from runner.topology.consent import REPLACED_SERVICES, Consent, decide
from runner.topology.effective_settings import Policies
from runner.topology.live import DRAIN_SUFFIXES, STAND_IN, Live
from runner.topology.model import Binding, Queue
from runner.topology.offline_routing import alternates_of
from runner.topology.plan import Change, Decision, Mark, Plan
from runner.topology.planner import make_plan
from tests.broker_model import BrokerModel, router_of
from tests.proof import times

#: Thousands of examples take minutes.
pytestmark = pytest.mark.timeout(times(120, 3600))

EXCHANGES, QUEUES = ("e1", "e2", "e3", "e4"), ("q1", "q2", "q3", "q4")
KEYS = ("a", "b", "a.b", "c")
PATTERNS = ("a", "b", "a.b", "a.#", "*", "#")
ALL = Consent(frozenset(), drain=True, retire=True)

_keys = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True)
_names_of_exchanges = st.sets(st.sampled_from(EXCHANGES), min_size=1)
_names_of_queues = st.sets(st.sampled_from(QUEUES), min_size=1)


#: An argument that no queue may change. With drop-head, a replacement is refused because messages might be dropped.
LIMIT = {"x-max-length-bytes": 10**6, "x-overflow": "reject-publish"}


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid topology.yaml with a few names, so that two of them overlap."""
    exchanges, queues = sorted(draw(_names_of_exchanges)), sorted(draw(_names_of_queues))
    one_exchange = st.sampled_from(exchanges)
    result: dict[str, Any] = {"exchanges": {}, "queues": {}, "bindings": [], "policies": {}}
    for name in exchanges:
        alternate = draw(st.none() | one_exchange)
        result["exchanges"][name] = {
            "type": draw(st.sampled_from(["topic", "topic", "direct", "fanout"])),
            "alternate_exchange": alternate if alternate != name else None,
        }
    for name in queues:
        dead_letter = draw(st.sampled_from([None, None, "parked", "q4"]))
        result["queues"][name] = {
            "type": draw(st.sampled_from(["quorum", "quorum", "classic"])),
            "bind": draw(st.dictionaries(one_exchange, _keys, max_size=2)),
            "retry": draw(st.sampled_from([[], ["1s"], ["1s", "5s"], ["5s"]])),
            "dead_letter": dead_letter if dead_letter != name else None,
            "policy": draw(st.sampled_from([{}, {}, {"max-length": 1000}, {"max-length": 2000}])),
            "arguments": draw(st.sampled_from([{}, {}, {}, LIMIT])),
        }
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["exchange", "exchange", "queue"]))
        destination = draw(one_exchange if kind == "exchange" else st.sampled_from(queues))
        one = {"source": draw(one_exchange), "destination": destination, "destination_type": kind}
        result["bindings"].append({**one, "routing_key": draw(st.sampled_from(PATTERNS))})
    for name in draw(st.sets(st.sampled_from(["cap", "ttl"]))):
        result["policies"][name] = {
            "pattern": draw(st.sampled_from(["^q", "^q1$", "q[12]", "^q3"])),
            "priority": draw(st.integers(0, 2)),
            "definition": draw(st.sampled_from([{"max-length": 3000}, {"message-ttl": 90000}])),
        }
    return result


class Scene:
    """One broker, and one topology to apply."""

    def __init__(self, broker: BrokerModel, written: dict[str, Any], consumed: frozenset[str]) -> None:
        self.broker = broker
        self.topology = Topology.model_validate(written)
        self.objects = compile_topology(self.topology, consumed & self.topology.queues.keys())
        self.before = broker.live()
        replaced = {one.name for one in self.plan().of(Mark.REPLACE) if one.kind == "exchange"}
        there = self.before.exchanges.keys() & {one.name for one in self.objects.exchanges}
        self.entries = sorted(there - replaced)
        #: The new names of the queues that are renamed. Messages for the old queue may reach the new one.
        self.renamed = {old: name for name, old in self.objects.formerly.items()}
        bare, bare_now = router_of(self.objects, with_alternates=False), broker.router(with_alternates=False)
        #: Messages that reach some queue by bindings before and afterwards. Messages that need an alternate exchange
        #: may be returned to their publisher in between.
        self.is_routed = {
            (entry, key)
            for entry in self.entries
            for key in KEYS
            if bare.route(entry, key).queues and bare_now.route(entry, key).queues
        }
        #: Messages that reach a queue before and afterwards, and therefore must reach it at every moment.
        self.kept = {
            (entry, key): set(bare.route(entry, key).queues) & self._named(bare_now.route(entry, key).queues)
            for entry in self.entries
            for key in KEYS
        }
        #: The same for replaced exchanges, if they accept a message at all. A publisher may repeat a returned message.
        self.kept_if_accepted = {
            (entry, key): set(bare.route(entry, key).queues) & self._named(bare_now.route(entry, key).queues)
            for entry in sorted(there & replaced)
            for key in KEYS
        }
        alternates = {*alternates_of(broker.objects()).values(), *alternates_of(self.objects).values()}
        self.has_steady_alternates = not alternates & replaced

    def _named(self, queues: Iterable[str]) -> set[str]:
        return {self.renamed.get(one, one) for one in queues}

    def plan(self, *, prune: bool = False) -> Plan:
        """Return the current plan."""
        return make_plan(self.objects, self.broker.live(), self.topology.retire, prune=prune)

    def pending(self) -> set[tuple[Mark, str, str]]:
        """Return the pending changes."""
        return {_about(one) for one in self.plan().changes if one.mark is not Mark.UNMANAGED}

    def run(self, consent: Consent, fails_at: int = -1, *, prune: bool = False) -> tuple[Decision, list[Change]]:
        """Apply, and check all invariants after each step."""
        broker, live = self.broker, self.broker.live()
        plan = self.plan(prune=prune)
        if consent is ALL:
            consent = Consent(frozenset(one.name for one in plan.of(Mark.REPLACE)), drain=True, retire=True)
        decision = decide(plan, self.objects, live, consent)
        assert len(decision.done) + len(decision.left) == sum(one.mark is not Mark.UNMANAGED for one in plan.changes)
        held = _held_back(decision, live)
        messages = _messages(broker)
        done: list[Change] = []
        is_moving = any(one.kind == "queue" for one in decision.of(Mark.REPLACE, Mark.RENAME))

        def check(step: str) -> None:
            assert _held_back(decision, broker.live()) == held, f"{step}: a held-back object was touched"
            self._check_flow(step, is_moving=is_moving)
            assert _messages(broker) >= messages, f"{step}: a message is lost"

        broker.watch, broker.steps, broker.fails_at = check, 0, fails_at
        try:
            left = apply(decision, live, broker, did=done.append)
            assert self._copies() == set(), "a message reaches a queue under both its names"
            assert {_about(one) for one in done} >= {_about(one) for one in decision.done} - {
                _about(one.change) for one in left
            } - _kept_with(left, decision)
        finally:
            broker.watch, broker.fails_at = lambda _: None, -1
        return decision, done

    def _check_flow(self, step: str, *, is_moving: bool) -> None:
        bare, full = self.broker.router(with_alternates=False), self.broker.router(with_alternates=True)
        for (entry, key), kept in self.kept.items():
            found = self._named(_plain(one) for one in bare.route(entry, key).queues)
            assert kept <= found, f"{step}: {key!r} from {entry} no longer reaches {kept - found}"
        for (entry, key), kept in self.kept_if_accepted.items():
            if entry in self.broker.exchanges and full.route(entry, key).queues:
                found = self._named(_plain(one) for one in bare.route(entry, key).queues)
                assert kept <= found, f"{step}: {key!r} from {entry} is accepted but does not reach {kept - found}"
        # A replaced queue may stay bound for a moment longer or shorter than the exchange's other destinations.
        for entry, key in self.is_routed if self.has_steady_alternates and not is_moving else ():
            assert full.route(entry, key).queues, f"{step}: {key!r} from {entry} reaches no queue"

    def _copies(self) -> set[tuple[str, str, str]]:
        """Return the messages that reach a queue under both its names. At most some do so while bindings move.

        If a queue exists under both names before, both may have the same bindings.
        """
        router = self.broker.router(with_alternates=False)
        routes = {(entry, key): set(router.route(entry, key).queues) for entry in self.broker.exchanges for key in KEYS}
        pairs = [(old, new) for old, new in self.renamed.items() if new not in self.before.queues]
        return {(entry, key, old) for (entry, key), to in routes.items() for old, new in pairs if {old, new} <= to}


def _kept_with(left: list[Any], decision: Decision) -> set[tuple[Mark, str, str]]:
    """Return retired queues, retry queues and policies that stay because one of the queues has messages."""
    return {_about(one) for one in decision.of(Mark.RETIRE)} if left else set()


def _about(change: Change) -> tuple[Mark, str, str]:
    return change.mark, change.kind, change.name


def _plain(name: str) -> str:
    return name.removesuffix(DRAIN_SUFFIXES[1]).removesuffix(STAND_IN)


def _messages(broker: BrokerModel) -> set[int]:
    return {one for held in broker.messages.values() for one in held}


def _held_back(decision: Decision, live: Live) -> list[Any]:
    """Return all parts of held-back objects."""
    policies = Policies(live.policies.values())
    found: list[Any] = []
    for kind, name in sorted(decision.held):
        thing = live.exchanges.get(name) if kind == "exchange" else getattr(live.queues.get(name), "queue", None)
        found.append((kind, name, thing, None if thing is None else policies.applying(thing)))
    # During a replacement with consent, an object has bindings under another name.
    bindings = (one.binding for one in live.bindings.values())
    settled = [replace(one, source=_plain(one.source), destination=_plain(one.destination)) for one in bindings]
    found.append({one.key for one in settled if decision.touches_held(one)})
    # A held-back queue keeps its former name.
    former = {old for name, old in decision.target.formerly.items() if ("queue", name) in decision.held}
    found.append({one.key for one in settled if one.destination_type == "queue" and one.destination in former})
    found.append({key for key in live.owned.bindings if decision.touches_held(Binding(key[0], key[2], key[1]))})
    found.append({name for name in live.owned.queues if ("queue", name) in decision.held})
    found.append({name for name in live.owned.exchanges if ("exchange", name) in decision.held})
    return found


def _running(written: dict[str, Any], consumed: frozenset[str], waiting: frozenset[str]) -> BrokerModel:
    """Return a broker to which a topology was applied, with messages in some of its queues."""
    broker = BrokerModel()
    scene = Scene(broker, written, consumed)
    scene.run(ALL)
    assert scene.pending() == set(), "after a complete run the next plan is empty"
    for number, name in enumerate(sorted(waiting & broker.queues.keys())):
        broker.messages[name] = [10 * number, 10 * number + 1]
    return broker


def _edited(data: st.DataObject, old: dict[str, Any]) -> dict[str, Any]:
    """Draw another topology that shares parts with the old one, and retires some of the removed objects."""
    new = data.draw(topologies(), "new")
    for part in ("exchanges", "queues"):
        for name in data.draw(st.sets(st.sampled_from(sorted(old[part]))), f"{part} that stay"):
            stays = {key: value for key, value in old[part][name].items() if key != "bind"}
            bind = {key: value for key, value in old[part][name].get("bind", {}).items() if key in new["exchanges"]}
            if stays.get("alternate_exchange") not in new["exchanges"]:
                stays.pop("alternate_exchange", None)
            new[part][name] = stays | ({"bind": bind} if part == "queues" else {})
    gone = {part: sorted(old[part].keys() - new[part].keys()) for part in ("exchanges", "queues", "policies")}
    needed = {one.get("dead_letter") for one in new["queues"].values()}
    names = {"old": [one for one in gone["queues"] if one not in needed], "new": sorted(new["queues"])}
    if all(names.values()) and data.draw(st.booleans(), "renames"):
        former = data.draw(st.sampled_from(names["old"]), "the former name")
        new["queues"][data.draw(st.sampled_from(names["new"]), "the new name")]["formerly"] = former
        gone["queues"].remove(former)
    new["retire"] = {
        part: sorted(data.draw(st.sets(st.sampled_from(names)), f"{part} to retire")) if names else []
        for part, names in gone.items()
    }
    return new


def _drawn_consent(data: st.DataObject, plan: Plan) -> Consent:
    names = sorted({one.name for one in plan.of(Mark.REPLACE)})
    agreed = data.draw(st.sets(st.sampled_from(names)), "consent") if names else set()
    return Consent(frozenset(agreed), drain=data.draw(st.booleans(), "drain"), retire=data.draw(st.booleans()))


_consumed = st.frozensets(st.sampled_from(QUEUES))
_waiting = st.frozensets(st.sampled_from(["q1", "q2", "q3", "q1.retry.1s", "q2.dlq", "parked"]), max_size=2)
_settings = settings(
    max_examples=times(45, 5000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _finish(scene: Scene) -> None:
    """Apply with full consent and empty retired queues, and check that no change is left."""
    for name in scene.topology.retire.queues:
        for queue in list(scene.broker.messages):
            if queue in (name, f"{name}.dlq") or queue.startswith(f"{name}.retry."):
                scene.broker.messages[queue].clear()
    scene.run(ALL)
    assert scene.pending() == set(), "with full consent the plan is empty"


@_settings
@given(st.data(), topologies(), _consumed, _waiting)
def test_held_back_objects_are_not_touched_and_no_flow_stops(
    data: st.DataObject, old: dict[str, Any], consumed: frozenset[str], waiting: frozenset[str]
) -> None:
    broker = _running(old, consumed, waiting)
    scene = Scene(broker, _edited(data, old), consumed)
    decision, done = scene.run(_drawn_consent(data, scene.plan()))
    reported = {_about(one) for one in done}
    # A retired queue that contains messages is kept with its parts.
    assert not scene.pending() & reported, "changes reported as done are not pending"
    left = {_about(one.change) for one in decision.left}
    assert scene.pending() >= left - {_about(one) for one in decision.of(Mark.RETIRE)}
    _finish(scene)


@_settings
@given(st.data(), topologies(), _consumed, _waiting)
def test_while_removals_wait_every_old_route_and_policy_stays_and_the_next_run_removes_them(
    data: st.DataObject, old: dict[str, Any], consumed: frozenset[str], waiting: frozenset[str]
) -> None:
    broker = _running(old, consumed, waiting)
    scene = Scene(broker, _edited(data, old), consumed)
    scene.is_routed = set()  # only bindings count here
    bindings, policies, routes = broker.live().bindings.keys(), broker.live().policies.keys(), _routes(broker)
    decision, done = scene.run(Consent(removals=False))
    assert not [one for one in done if one.is_removal]
    assert bindings <= broker.live().bindings.keys()
    assert policies <= broker.live().policies.keys()
    after = _routes(broker)
    assert all(queues <= after[way] for way, queues in routes.items())
    late = {_about(one.change) for one in decision.left if one.waits_for == REPLACED_SERVICES}
    assert late <= scene.pending()
    # Everything is removed except the objects that a held-back object needs.
    decision, done = scene.run(Consent())
    assert late <= {_about(one) for one in done} | {_about(one.change) for one in decision.left if one.waits_for}
    _finish(scene)


def _routes(broker: BrokerModel) -> dict[tuple[str, str], set[str]]:
    router = broker.router(with_alternates=False)
    return {(entry, key): set(router.route(entry, key).queues) for entry in broker.live().exchanges for key in KEYS}


@_settings
@given(st.data(), topologies(), _consumed, _waiting)
def test_a_run_that_fails_at_any_step_converges_when_it_runs_again(
    data: st.DataObject, old: dict[str, Any], consumed: frozenset[str], waiting: frozenset[str]
) -> None:
    broker = _running(old, consumed, waiting)
    scene = Scene(broker, _edited(data, old), consumed)
    consent = _drawn_consent(data, scene.plan())
    for _ in range(data.draw(st.integers(1, 2), "failures")):
        try:
            scene.run(consent, fails_at=data.draw(st.integers(0, 60), "the step that fails"))
        except BrokerUnreachable:
            continue
    scene.run(consent)
    _finish(scene)


@settings(_settings, max_examples=times(25, 3000))
@given(st.data(), topologies(), topologies(), _waiting)
def test_pruning_keeps_messages_and_foreign_objects_and_leaves_no_object_of_ours_without_a_reason(
    data: st.DataObject, old: dict[str, Any], new: dict[str, Any], waiting: frozenset[str]
) -> None:
    broker = _running(old, frozenset(), waiting)
    broker.queues["theirs"], broker.messages["theirs"] = Queue("theirs"), [1000]
    source = data.draw(st.sampled_from(sorted(old["exchanges"])), "an exchange that another client binds")
    theirs = Binding(source, data.draw(st.sampled_from(["theirs", *sorted(old["queues"])]), "to"), "queue", "theirs")
    broker.bindings[theirs.key] = theirs
    scene = Scene(broker, new, frozenset())
    for _ in range(4):
        scene.run(ALL, prune=True)
        assert theirs.key in broker.bindings
        assert broker.messages["theirs"] == [1000]
        for name in broker.remembered.queues & broker.queues.keys() - {one.name for one in scene.objects.queues}:
            broker.messages[name].clear()  # as a purge would
    plan = scene.plan(prune=True)
    assert not [one for one in plan.changes if one.mark is not Mark.UNMANAGED], "no change is left"
    left = {(one.kind, one.name) for one in plan.of(Mark.UNMANAGED) if one.why and one.kind != "binding"}
    assert all("keeps it: " in one.why for one in plan.of(Mark.UNMANAGED) if (one.kind, one.name) in left)


def test_a_new_binding_takes_no_message_from_an_alternate_exchange_while_its_route_is_held_back() -> None:
    exchanges = {"e1": {"type": "topic"}, "e2": {"type": "topic", "alternate_exchange": "e1"}}
    old = {"exchanges": exchanges, "queues": {"q1": {"type": "classic"}, "q2": {"bind": {"e1": ["a"]}}}}
    ring = {"source": "e2", "destination": "e2", "destination_type": "exchange", "routing_key": "a"}
    new = {"exchanges": exchanges, "queues": {"q1": {"type": "quorum", "bind": {"e2": ["a"]}}}, "bindings": [ring]}
    broker = _running(old, frozenset(), frozenset())
    scene = Scene(broker, new, frozenset())
    decision, _ = scene.run(Consent())
    assert {one.change.name for one in decision.left if one.waits_for} >= {"e2 -(a)-> exchange e2", "e2 -(a)-> q1"}
    _finish(scene)


def test_an_old_direct_exchange_gives_its_alternate_exchange_no_message_while_both_are_replaced() -> None:
    """The binding e2 -> e1 is removed, and disappears with the old e1 while the old e2 still receives messages."""
    ways = [
        {"source": one, "destination": "e1", "destination_type": "exchange", "routing_key": "a"} for one in ("e1", "e2")
    ]
    for alternate in ("e1", "e4", None):
        others = {"e4": {"type": "fanout"}, "e3": {"type": "topic"}}
        kinds = [
            {"e1": {"type": one}, "e2": {"type": two, "alternate_exchange": alternate}}
            for one, two in (("topic", "direct"), ("direct", "topic"))
        ]
        wrong = {"q4": {"bind": {"e4": ["#"]}}}
        old = {
            "exchanges": kinds[0] | others,
            "queues": {"q1": {"bind": {"e1": ["a"], "e2": ["a.#", "#"]}}} | wrong,
            "bindings": ways,
        }
        new = {
            "exchanges": kinds[1] | others,
            "queues": {"q1": {"bind": {"e1": ["a", "b"], "e2": ["#"]}}, "q2": {"bind": {"e1": ["a.#"], "e2": ["a.#"]}}}
            | wrong,
        }
        scene = Scene(_running(old, frozenset(), frozenset()), new, frozenset())
        assert scene.kept_if_accepted["e2", "a"] == {"q1"}
        _finish(scene)


def test_a_message_with_a_removed_key_reaches_its_queue_or_the_alternate_exchange_and_never_both() -> None:
    other = {"q4": {"bind": {"e4": [""]}}}
    old = {
        "exchanges": {"e1": {"type": "direct", "alternate_exchange": "e4"}, "e4": {"type": "fanout"}},
        "queues": {"q1": {"bind": {"e1": ["a", "b"]}}} | other,
    }
    new = {
        "exchanges": {"e1": {"type": "topic", "alternate_exchange": "e4"}, "e4": {"type": "fanout"}},
        "queues": {"q1": {"bind": {"e1": ["b"]}}} | other,
    }
    broker = _running(old, frozenset(), frozenset())
    scene = Scene(broker, new, frozenset())
    live = broker.live()
    decision = decide(scene.plan(), scene.objects, live, Consent(frozenset({"e1"}), drain=True, retire=True))
    reached: list[set[str]] = []
    broker.watch = lambda _: reached.append(set(broker.router(with_alternates=True).route("e1", "a").queues))
    apply(decision, live, broker)
    assert {"q1", "q4"} not in reached
    assert reached[-1] == {"q4"}
