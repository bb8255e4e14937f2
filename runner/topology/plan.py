"""The planned changes to objects on a broker, and the decision about these changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from runner.errors import EXIT_CONFIG, EXIT_OK
from runner.topology.compile import owner_of_policy
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Exchange, Node, Objects, Policy, Queue

#: The exit codes of ``plan`` for changes, for a required replacement, and for an incomplete comparison without
#: differences.
EXIT_CHANGES, EXIT_REPLACE, EXIT_UNCOMPARED = 2, 3, 4

Thing = Exchange | Queue | Binding | Policy

#: The reason that a plan shows for an object whose replacement was interrupted.
INTERRUPTED = "the replacement was interrupted; run the same command to continue"


class Mark(StrEnum):
    """The kind of a change, which a plan shows as a mark."""

    CREATE = "+"
    #: A change in place, which does not affect messages.
    CHANGE = "~"
    #: A deletion followed by a recreation.
    REPLACE = "!"
    RETIRE = "-"
    #: A rename of a queue, with its messages and bindings.
    RENAME = ">"
    #: An object that is not in topology.yaml and is not changed.
    UNMANAGED = "?"


@dataclass(frozen=True)
class Change:
    """One change in a plan."""

    mark: Mark
    thing: Thing
    why: str = ""
    #: The number of messages at risk in the queue, or None if unknown.
    messages: int | None = 0
    consumers: int | None = 0
    #: True if a binding or policy is removed.
    is_removal: bool = False
    #: The new name of a renamed queue. Empty for all other changes.
    new_name: str = ""

    @property
    def kind(self) -> str:
        """The kind of object: ``exchange``, ``queue``, ``binding`` or ``policy``."""
        return type(self.thing).__name__.lower()

    @property
    def name(self) -> str:
        """The name of the object, or the description of a binding."""
        return binding_name(self.thing) if isinstance(self.thing, Binding) else self.thing.name


def binding_name(one: Binding) -> str:
    """Return the description of a binding, such as ``orders.topic -(order.#)-> payment.order.created``."""
    arguments = json.dumps(dict(one.arguments), ensure_ascii=False) if one.arguments else ""
    condition = " ".join(part for part in (one.routing_key, arguments) if part)
    line = f"-({condition})->" if condition else "->"
    return f"{one.source} {line} {'' if one.destination_type == 'queue' else 'exchange '}{one.destination}"


@dataclass(frozen=True)
class Plan:
    """The differences between topology.yaml and a broker, in the order of the changes."""

    changes: tuple[Change, ...] = ()
    #: The objects that could not be compared, each with the reason.
    uncompared: tuple[str, ...] = ()
    #: Problems that need attention, such as a policy that hides one of FastCommerce's policies.
    warnings: tuple[str, ...] = ()
    #: Requirements that the broker cannot meet. If there are any, no object is changed.
    problems: tuple[str, ...] = ()
    #: One line about FastCommerce's objects that are no longer in topology.yaml. Empty if there are none.
    surplus: str = ""
    #: True if an object that is no longer in topology.yaml still gets messages.
    fills_up: bool = False
    #: The names of the objects that ``apply --prune`` keeps, each with the reason.
    kept: tuple[tuple[str, str], ...] = ()

    def of(self, *marks: Mark) -> tuple[Change, ...]:
        """Return the changes that have one of these marks."""
        return tuple(one for one in self.changes if one.mark in marks)

    @property
    def exit_code(self) -> int:
        """The exit code of ``plan``. A difference has priority over an incomplete comparison."""
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
    """Return the line for one change in a plan."""
    risk = []
    if not change.new_name and (change.messages != 0 or change.consumers != 0):
        risk = [f"{counted(change.messages, 'message')}, {counted(change.consumers, 'consumer')}"]
    words = "; ".join([*([change.why] if change.why else []), *risk])
    name = f"rename {change.name} -> {change.new_name}" if change.new_name else change.name
    return f"{change.mark.value} {change.kind:<8} {name}{f'  {words}' if words else ''}"


@dataclass(frozen=True)
class Left:
    """A change that is not made yet, with its requirements."""

    change: Change
    needs: str
    #: The object that the change waits for. Empty if the change waits for consent.
    waits_for: str = ""
    #: True if the changed object is generated, and the line about its owner is therefore sufficient.
    is_implied: bool = False


@dataclass(frozen=True)
class Decision:
    """A plan that is divided into the changes to apply and the changes that are not made yet."""

    done: tuple[Change, ...] = ()
    left: tuple[Left, ...] = ()
    #: The held-back exchanges and queues.
    held: frozenset[Node] = frozenset()
    #: The exchanges with a route in topology.yaml that does not yet exist on the broker.
    open_routes: frozenset[str] = frozenset()
    #: The objects in topology.yaml that will exist on the broker after the changes.
    target: Objects = field(default_factory=Objects)

    def of(self, *marks: Mark) -> tuple[Change, ...]:
        """Return the changes to apply that have one of these marks."""
        return tuple(one for one in self.done if one.mark in marks)

    def owned(self, live: Live) -> Owned:
        """Return FastCommerce's objects after the changes, but before deletions. Held-back objects keep their owner."""
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
