"""The lines of a plan about objects that are on the broker and not in topology.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.topology.change import Change, Mark
from runner.topology.family import owner_of_policy
from runner.topology.live import DRAIN_SUFFIXES, STAND_IN, Live
from runner.topology.model import Binding, Objects
from runner.topology.rename import Rename
from runner.topology.surplus import GONE, Surplus


def unmanaged(
    objects: Objects, live: Live, going: Iterable[Change], moving: Iterable[Rename], surplus: Surplus
) -> Iterator[Change]:
    """Yield all objects that no other change of the plan is about, with what ``apply --prune`` does with ours."""
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
            continue  # a change in place removes it, or a rename moves it
        if (binding.source in exchanges or is_for_ours) and not {binding.source, binding.destination} & aside:
            why = f"{GONE}; goes with what it leads to" if is_owned else ""
            yield Change(Mark.UNMANAGED, binding, why)
    for name in sorted(live.policies.keys() - policies):
        kind, rest = owner_of_policy(name) or ("", "")
        if not kind or rest not in (exchanges if kind == "exchange" else queues):
            yield Change(Mark.UNMANAGED, live.policies[name], surplus.why("policy", name))
