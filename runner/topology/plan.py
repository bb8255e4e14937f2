"""A plan: its changes, which create, change, replace or retire objects, and the decision which of them are done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from runner.errors import EXIT_CONFIG, EXIT_OK
from runner.topology.compile import owner_of_policy
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Exchange, Node, Objects, Policy, Queue

#: ``plan``: the broker would be changed, something must be replaced, or nothing is known to differ but not all could be
#: compared. (1 is for failures.)
EXIT_CHANGES, EXIT_REPLACE, EXIT_UNCOMPARED = 2, 3, 4

Thing = Exchange | Queue | Binding | Policy

#: Why a queue must be replaced whose replacement did not come to its end.
INTERRUPTED = "its replacement was interrupted; the same command goes on with it"


class Mark(StrEnum):
    """What a change means."""

    CREATE = "+"
    #: In place, without touching a message.
    CHANGE = "~"
    #: Deleted and made anew.
    REPLACE = "!"
    RETIRE = "-"
    #: Moved to another name, with its messages and bindings.
    RENAME = ">"
    #: There, but not in topology.yaml: never touched.
    UNMANAGED = "?"


@dataclass(frozen=True)
class Change:
    """One line of a plan."""

    mark: Mark
    thing: Thing
    why: str = ""
    #: The messages of a queue that are at risk; None if the number is unknown.
    messages: int | None = 0
    consumers: int | None = 0
    #: Whether a binding or policy goes away.
    is_removal: bool = False
    #: The new name of a queue that is renamed; empty for all other changes.
    new_name: str = ""

    @property
    def kind(self) -> str:
        """``exchange``, ``queue``, ``binding`` or ``policy``."""
        return type(self.thing).__name__.lower()

    @property
    def name(self) -> str:
        """What it is about, for people; of an exchange, queue or policy its name."""
        return binding_name(self.thing) if isinstance(self.thing, Binding) else self.thing.name


def binding_name(one: Binding) -> str:
    """Return what people call a binding, such as ``orders.topic -(order.#)-> payment.order.created``."""
    arguments = json.dumps(dict(one.arguments), ensure_ascii=False) if one.arguments else ""
    condition = " ".join(part for part in (one.routing_key, arguments) if part)
    line = f"-({condition})->" if condition else "->"
    return f"{one.source} {line} {'' if one.destination_type == 'queue' else 'exchange '}{one.destination}"


@dataclass(frozen=True)
class Plan:
    """All that differs, in the order in which it would be changed."""

    changes: tuple[Change, ...] = ()
    #: Each thing that could not be compared, and why.
    uncompared: tuple[str, ...] = ()
    #: Each thing that needs a look, such as a policy that hides ours.
    warnings: tuple[str, ...] = ()
    #: Each thing that this broker cannot do; nothing is changed while there is one.
    problems: tuple[str, ...] = ()
    #: One line about our objects that are no longer in topology.yaml; empty if there are none.
    surplus: str = ""
    #: Whether one of them still gets messages.
    fills_up: bool = False
    #: Those of them that ``apply --prune`` keeps, each with the reason.
    kept: tuple[tuple[str, str], ...] = ()

    def of(self, *marks: Mark) -> tuple[Change, ...]:
        """The changes with these marks."""
        return tuple(one for one in self.changes if one.mark in marks)

    @property
    def exit_code(self) -> int:
        """The exit code of ``plan``: the broker's differences first, then whether all could be compared."""
        if self.problems:
            return EXIT_CONFIG
        if self.of(Mark.REPLACE):
            return EXIT_REPLACE
        if self.of(Mark.CREATE, Mark.CHANGE, Mark.RENAME, Mark.RETIRE):
            return EXIT_CHANGES
        return EXIT_UNCOMPARED if self.uncompared else EXIT_OK


def counted(number: int | None, word: str) -> str:
    """Return ``1 message``, ``2 messages``, or ``an unknown number of messages`` for None."""
    if number is None:
        return f"an unknown number of {word}s"
    return f"{number} {word}{'' if number == 1 else 's'}"


def change_line(change: Change) -> str:
    """One change, for people."""
    risk = []
    if not change.new_name and (change.messages != 0 or change.consumers != 0):
        risk = [f"{counted(change.messages, 'message')}, {counted(change.consumers, 'consumer')}"]
    words = "; ".join([*([change.why] if change.why else []), *risk])
    name = f"rename {change.name} -> {change.new_name}" if change.new_name else change.name
    return f"{change.mark.value} {change.kind:<8} {name}{f'  {words}' if words else ''}"


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
