"""The comparison of topology.yaml with a broker, which results in a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.config.cross_checks import GENERATED
from runner.config.policy_pattern import matches, pattern_problem
from runner.config.topology_file import Retire
from runner.config.version import CLASSIC, CONSUMER_TIMEOUT, QUORUM
from runner.topology.compile import CONSUMER_TIMEOUT_KEY, dead_letter_settings, owner_of_policy, policy_name
from runner.topology.difference import exchange_differences, queue_differences, shown, uncompared_arguments
from runner.topology.effective_settings import Policies
from runner.topology.live import DRAIN_SUFFIXES, STAND_IN, Live
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.plan import INTERRUPTED, Change, Mark, Plan
from runner.topology.queue_limits import lowered_limits
from runner.topology.rename import Rename, rename_changes, renames
from runner.topology.retire import retired
from runner.topology.surplus import GONE, Surplus

_NO_LONGER_IN_FILE = "removed, because it is no longer in topology.yaml"
_NO_LONGER_NEEDED = "removed, because it is no longer needed"


def make_plan(objects: Objects, live: Live, retire: Retire, *, prune: bool = False) -> Plan:
    """Return the plan that makes a broker match ``objects``.

    If ``prune`` is True, the plan also deletes surplus objects.
    """
    live, policies = live.settled(), Policies(objects.policies, live.version or None)
    going, moving = list(retired(objects, live, retire)), list(renames(objects, live))
    surplus = Surplus(objects, live, going, {name for one in moving for name in one.sources})
    going += surplus.deletions() if prune else ()
    changes = [
        *_policies(objects, live),
        *_exchanges(objects, live, policies),
        *_queues(objects, live, policies),
        *_bindings(objects, live),
        *rename_changes(objects, live),
        *_stale(objects, live),
        *going,
        *unmanaged(objects, live, going, moving, surplus),
    ]
    return Plan(
        tuple(changes),
        (),
        (
            *_warnings(objects, live, policies),
            *uncompared_arguments(objects, live, policies),
            *_doubts(objects, live, policies),
            *lowered_limits(objects, live, policies),
        ),
        surplus=surplus.line(),
        fills_up=surplus.fills_up,
        kept=tuple(surplus.reasons()),
    )


def _policies(objects: Objects, live: Live) -> Iterator[Change]:
    for one in objects.policies:
        there = live.policies.get(one.name)
        if there is None:
            yield Change(Mark.CREATE, one, _settings(one.definition))
        elif there != one:
            yield Change(Mark.CHANGE, one, ", ".join(_policy_differences(one, there)))


def _policy_differences(ours: Policy, theirs: Policy) -> Iterator[str]:
    for name in ("pattern", "apply_to", "priority"):
        if getattr(ours, name) != getattr(theirs, name):
            yield f"{name} {getattr(theirs, name)!r} becomes {getattr(ours, name)!r}"
    for key in sorted({*ours.definition, *theirs.definition}):
        old, new = theirs.definition.get(key), ours.definition.get(key)
        if old != new:
            yield f"{key} {shown(old)} becomes {shown(new)}"


def _exchanges(objects: Objects, live: Live, policies: Policies) -> Iterator[Change]:
    theirs = Policies(live.policies.values(), live.version or None)
    for one in objects.exchanges:
        there = live.exchanges.get(one.name)
        if f"{one.name}{STAND_IN}" in live.exchanges:
            yield Change(Mark.REPLACE, one, INTERRUPTED)
            continue
        if there is None:
            yield Change(Mark.CREATE, one, one.type)
            continue
        differences = exchange_differences(one, there, policies, theirs, live.version)
        if differences:
            yield Change(Mark.REPLACE, one, ", ".join(differences))


def _queues(objects: Objects, live: Live, policies: Policies) -> Iterator[Change]:
    theirs = Policies(live.policies.values(), live.version or None)
    for one in objects.queues:
        there = live.queues.get(one.name)
        aside = [live.queues[name] for suffix in DRAIN_SUFFIXES if (name := f"{one.name}{suffix}") in live.queues]
        if aside:
            why = INTERRUPTED
            counts = [part.messages for part in (*aside, *([there] if there is not None else []))]
            messages = None if None in counts else sum(one or 0 for one in counts)
            yield Change(Mark.REPLACE, one, why, messages)
        elif there is None:
            yield Change(Mark.CREATE, one, one.type)
        else:
            differences = queue_differences(one, there.queue, policies, theirs, live.version)
            if differences:
                yield Change(Mark.REPLACE, one, ", ".join(differences), there.messages, there.consumers)


def _bindings(objects: Objects, live: Live) -> Iterator[Change]:
    for one in objects.bindings:
        if one.key not in live.bindings:
            yield Change(Mark.CREATE, one)


def _stale(objects: Objects, live: Live) -> Iterator[Change]:
    """Yield the removals of obsolete bindings and policies from exchanges and queues that are not obsolete."""
    ours = {one.key for one in objects.bindings}
    queues, exchanges = {one.name for one in objects.queues}, {one.name for one in objects.exchanges}
    for key in sorted(live.owned.bindings - ours):
        there = live.bindings.get(key)
        # Another topology.yaml may bind a queue that this topology.yaml does not contain.
        if there is not None and there.binding.destination in (queues if key[1] == "queue" else exchanges):
            yield Change(Mark.CHANGE, there.binding, _NO_LONGER_IN_FILE, is_removal=True)
    generated = {one.name for one in objects.policies}
    for kind, names in (("queue", queues), ("exchange", exchanges)):
        for policy in sorted(live.policies.keys() - generated):
            start = f"{GENERATED}{kind}."
            is_ours = policy.startswith(start) and policy.removeprefix(start) in names
            if is_ours and not _is_for_consumers(live.policies[policy]):
                yield Change(Mark.CHANGE, live.policies[policy], _NO_LONGER_NEEDED, is_removal=True)
    for name in sorted(queues):
        # The policy may remain from an interrupted rename or replacement that was later removed from topology.yaml.
        policy = policy_name("drain", name)
        if policy in live.policies and not any(f"{name}{suffix}" in live.queues for suffix in DRAIN_SUFFIXES):
            yield Change(Mark.CHANGE, live.policies[policy], _NO_LONGER_NEEDED, is_removal=True)


def _is_for_consumers(policy: Policy) -> bool:
    """Return True if a policy contains only settings for consumers, which another config.yaml may need."""
    said = dict(policy.definition)
    timeout = said.get(CONSUMER_TIMEOUT_KEY)
    if isinstance(timeout, int) and timeout > CONSUMER_TIMEOUT * 1000:
        del said[CONSUMER_TIMEOUT_KEY]  # no service needs a shorter timeout
    return any(
        said == dead_letter_settings(kind, str(said.get("dead-letter-routing-key"))) for kind in (CLASSIC, QUORUM)
    )


def _warnings(objects: Objects, live: Live, policies: Policies) -> Iterator[str]:
    ours = {one.name for one in objects.policies}
    # Unneeded policies of FastCommerce are not reported: they will be removed, or they belong to an interrupted
    # replacement.
    others = (policy for name, policy in live.policies.items() if name not in ours and not name.startswith(GENERATED))
    foreign = Policies(others, live.version or None)
    things: tuple[Exchange | Queue, ...] = (*objects.exchanges, *objects.queues)
    for thing in things:
        wanted, other = policies.applying(thing), foreign.applying(thing)
        if wanted is not None and other is not None and other.priority >= wanted.priority:
            yield (
                f"{type(thing).__name__.lower()} {thing.name!r}: the broker's own policy {other.name!r} hides"
                f" {wanted.name!r}, because only one policy applies; set the priority of {other.name!r} below"
                f" {wanted.priority}, or move {other.name!r} to topology.yaml under policies"
            )


def _doubts(objects: Objects, live: Live, policies: Policies) -> Iterator[str]:
    """Yield a warning for each foreign policy that cannot be evaluated, with the policies that it may hide."""
    ours = {one.name for one in objects.policies}
    doubtful = [one for one in live.policies.values() if one.name not in ours and matches(one.pattern, "") is None]
    others = [one for one in live.policies.values() if one.name not in ours and not one.name.startswith(GENERATED)]
    foreign = Policies(others, live.version or None)
    things: tuple[Exchange | Queue, ...] = (*objects.exchanges, *objects.queues)
    hidden: dict[str, list[str]] = {one.name: [] for one in doubtful}
    for thing in things:
        wanted = policies.applying(thing)
        for policy in foreign.doubtful(thing):
            names = hidden.setdefault(policy.name, [])
            if wanted is not None and policy.priority >= wanted.priority:
                names.append(wanted.name)
    for name, names in sorted(hidden.items()):
        pattern = live.policies[name].pattern
        reason = pattern_problem(pattern) or "matching takes too many steps, or depends on the version of Erlang"
        risk = f" and may hide {', '.join(map(repr, names[:3]))}{' and more' if names[3:] else ''}" if names else ""
        yield f"policy {name!r} cannot be evaluated{risk}; pattern {pattern!r}: {reason}"


def _settings(definition: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {shown(value)}" for key, value in definition.items())


def unmanaged(
    objects: Objects, live: Live, going: Iterable[Change], moving: Iterable[Rename], surplus: Surplus
) -> Iterator[Change]:
    """Yield each object that the plan does not change, with a note if ``apply --prune`` would delete the object."""
    going, moving = tuple(going), tuple(moving)
    renamed = {name for one in moving for name in one.sources}
    known = {one.key for one in objects.bindings} | {one.thing.key for one in going if isinstance(one.thing, Binding)}
    exchanges = {one.name for one in objects.exchanges} | {one.name for one in going if one.kind == "exchange"}
    queues = {one.name for one in objects.queues} | {one.name for one in going if one.kind == "queue"} | renamed
    policies = {one.name for one in objects.policies} | {one.name for one in going if one.kind == "policy"}
    policies |= {name for one in moving for name in one.policies}
    aside = {f"{name}{suffix}" for name in queues for suffix in DRAIN_SUFFIXES}
    aside |= (stand_ins := {f"{name}{STAND_IN}" for name in exchanges})
    for name in sorted(live.exchanges.keys() - exchanges - stand_ins):
        yield Change(Mark.UNMANAGED, live.exchanges[name], surplus.why("exchange", name))
    for name in sorted(live.queues.keys() - queues - aside):
        there = live.queues[name]
        if not there.is_exclusive:
            why = surplus.why("queue", name)
            yield Change(Mark.UNMANAGED, there.queue, why, there.messages, there.consumers)
    for key in sorted(live.bindings.keys() - known):
        binding, is_owned = live.bindings[key].binding, key in live.owned.bindings
        is_for_ours = binding.destination in (queues if binding.destination_type == "queue" else exchanges)
        if (is_owned and is_for_ours) or any(one.brings(key) for one in moving):
            continue  # a change in place removes the binding, or a rename moves it
        if (binding.source in exchanges or is_for_ours) and not {binding.source, binding.destination} & aside:
            why = f"{GONE}; deleted with its destination" if is_owned else ""
            yield Change(Mark.UNMANAGED, binding, why)
    for name in sorted(live.policies.keys() - policies):
        kind, rest = owner_of_policy(name) or ("", "")
        if not kind or rest not in (exchanges if kind == "exchange" else queues):
            yield Change(Mark.UNMANAGED, live.policies[name], surplus.why("policy", name))
