"""The decision on a plan: the changes that are done, and those that are left."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.topology.change import Change, Mark
from runner.topology.compile import owner_of_policy
from runner.topology.generated_parts import Node
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Objects


@dataclass(frozen=True)
class Left:
    """One change that is not done, and its needs."""

    change: Change
    needs: str
    #: The object that the change waits for; empty if it waits for a person.
    waits_for: str = ""
    #: True if the changed object is generated, so that the line of its owner is enough.
    is_implied: bool = False


@dataclass(frozen=True)
class Decision:
    """A plan, divided into the changes that are done and those that are left."""

    done: tuple[Change, ...] = ()
    left: tuple[Left, ...] = ()
    #: The held-back exchanges and queues.
    held: frozenset[Node] = frozenset()
    #: The exchanges from which a route of topology.yaml is still missing.
    open_routes: frozenset[str] = frozenset()
    #: The objects of topology.yaml that the broker has afterwards.
    target: Objects = field(default_factory=Objects)

    def of(self, *marks: Mark) -> tuple[Change, ...]:
        """Return the changes with these marks that are done."""
        return tuple(one for one in self.done if one.mark in marks)

    def owned(self, live: Live) -> Owned:
        """Return our objects once the plan is done, before any deletion; held-back objects only if they were ours."""
        mine = self.target
        kept = {one.name for one in mine.policies if (node := owner_of_policy(one.name)) and node in self.held}
        kept |= {one.change.name for one in self.left if one.change.kind == "policy"}
        made = Owned(
            frozenset(one.name for one in mine.exchanges if ("exchange", one.name) not in self.held),
            frozenset(one.name for one in mine.queues if ("queue", one.name) not in self.held),
            frozenset(one.name for one in mine.policies if one.name not in kept),
            frozenset(one.key for one in mine.bindings if not self.touches_held(one)),
        )
        before = live.owned
        held = Owned(
            frozenset(name for name in before.exchanges if ("exchange", name) in self.held),
            frozenset(name for name in before.queues if ("queue", name) in self.held),
            frozenset(),
            frozenset(key for key in before.bindings if {("exchange", key[0]), (key[1], key[2])} & self.held),
        )
        return made | before.still_in(live) | held

    def touches_held(self, binding: Binding) -> bool:
        """Return True if either end of a binding is held back."""
        ends = {("exchange", binding.source), (binding.destination_type, binding.destination)}
        return bool(ends & self.held)
