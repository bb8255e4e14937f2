"""A plan, divided into what is done and what is left."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.topology.change import Change, Mark
from runner.topology.family import Node, owner_of_policy
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Objects


@dataclass(frozen=True)
class Left:
    """One change that is not done, and what it needs."""

    change: Change
    needs: str
    #: The object that it waits for; empty for one that waits for a person.
    waits_for: str = ""
    #: Whether it is generated, so that its object's own line says enough.
    is_implied: bool = False


@dataclass(frozen=True)
class Decision:
    """A plan, divided into what is done and what is left."""

    done: tuple[Change, ...] = ()
    left: tuple[Left, ...] = ()
    #: The exchanges and queues of which nothing is touched.
    held: frozenset[Node] = frozenset()
    #: The exchanges from which a route of topology.yaml is not there yet.
    open_routes: frozenset[str] = frozenset()
    #: What topology.yaml says, as far as the broker holds it afterwards.
    target: Objects = field(default_factory=Objects)

    def of(self, *marks: Mark) -> tuple[Change, ...]:
        """The changes with these marks that are done."""
        return tuple(one for one in self.done if one.mark in marks)

    def owned(self, live: Live) -> Owned:
        """What is ours once the plan is done, before anything is deleted; of what is held back, only what was."""
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
