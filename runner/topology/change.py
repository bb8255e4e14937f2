"""The lines of a plan: what is to be created, changed, replaced or retired, and what is not ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from runner.errors import EXIT_CONFIG, EXIT_OK
from runner.topology.model import Binding, Exchange, Policy, Queue

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
