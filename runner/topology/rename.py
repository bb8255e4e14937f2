"""The renaming of queues with ``formerly``, including their messages, bindings and generated parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from runner.topology.compile import dead_letter_queue, policy_name
from runner.topology.live import DRAIN_SUFFIXES, BindingKey, Live
from runner.topology.model import Binding, Objects, Queue
from runner.topology.plan import Change, Mark, counted
from runner.topology.retire import DEAD_LETTERS

#: The part of a retry queue's name between the name of the original queue and the delay.
RETRY = ".retry."


@dataclass(frozen=True)
class Rename:
    """The renaming of one queue."""

    old: str
    new: str
    #: Pairs of a retry queue and the queue to which its messages are moved.
    retries: tuple[tuple[str, str], ...] = ()
    #: The queue itself, and the extra queues of an interrupted replacement, in the order of their messages.
    queues: tuple[str, ...] = ()
    #: The old and the new generated dead-letter queue. None if the queue has no dead-letter queue of its own.
    dead_letters: tuple[str, str] | None = None
    #: The generated policies of the queue.
    policies: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """All queues whose messages must be moved, in order."""
        return (*(name for name, _ in self.retries), *self.queues, *(self.dead_letters or ())[:1])

    @property
    def names(self) -> dict[str, str]:
        """The new queue names, by old name. Message headers may still contain the old names."""
        names = {self.old: self.new, **dict(self.retries)}
        return names | ({self.dead_letters[0]: self.dead_letters[1]} if self.dead_letters is not None else {})

    def moved(self, one: Binding) -> Binding:
        """Return the binding to the new queue that replaces a binding to the old queue."""
        return replace(one, destination=self.new)

    def brings(self, key: BindingKey) -> bool:
        """Return True if the binding with this key leads to the old queue."""
        return key[1] == "queue" and key[2] in self.queues


def renames(objects: Objects, live: Live) -> Iterator[Rename]:
    """Yield the renames that are not complete on a broker."""
    needed = {one.name for one in objects.queues}
    for new, old in objects.formerly.items():
        aside = [f"{old}{suffix}" for suffix in DRAIN_SUFFIXES]
        queues = tuple(name for name in (aside[0], old, aside[1]) if name in live.queues)
        waiting = [name for name in sorted(live.queues) if name.startswith(f"{old}{RETRY}")]
        retries = tuple(
            (name, other if (other := f"{new}{name.removeprefix(old)}") in needed else new)
            for name in waiting
            if name not in needed and _is_ours(name, old, live)
        )
        policies = tuple(
            name for name in (policy_name("queue", old), policy_name("drain", old)) if name in live.policies
        )
        one = Rename(old, new, retries, queues, _dead_letters(old, new, objects, live), policies)
        if one.sources or one.policies:
            yield one


def rename_changes(objects: Objects, live: Live) -> Iterator[Change]:
    """Yield one change for each rename."""
    for one in renames(objects, live):
        there = live.queues.get(one.old)
        counts = [live.queues[name].messages for name in one.sources]
        total = None if None in counts else sum(count or 0 for count in counts)
        is_begun = there is None
        verb = "moves" if total == 1 else "move"
        why = f"{counted(total, 'message')} {verb}{'; the rename was interrupted and continues' if is_begun else ''}"
        thing, consumers = (Queue(one.old), 0) if there is None else (there.queue, there.consumers)
        yield Change(Mark.RENAME, thing, why, total, consumers, new_name=one.new)


def leads_to(thing: object, queue: str) -> bool:
    """Return True if an object is a binding to this queue."""
    return isinstance(thing, Binding) and (thing.destination_type, thing.destination) == ("queue", queue)


def former_bindings(new: str, objects: Objects, live: Live) -> Iterator[tuple[Binding, bool]]:
    """Yield each binding of the queue that is renamed to ``new``, with True if the binding must be removed."""
    wanted = {one.key for one in objects.bindings}
    for one in (found for found in renames(objects, live) if found.new == new):
        for key, there in sorted(live.bindings.items()):
            if one.brings(key):
                is_ours = key in live.owned.bindings
                yield there.binding, is_ours and one.moved(there.binding).key not in wanted


def before_renames(bindings: Iterable[Binding], found: Iterable[Rename], live: Live) -> list[Binding]:
    """Return the bindings as they are before any rename, with the old queues in place of the new queues.

    These bindings route each message to either the old or the new queue. An existing binding of a new queue is kept.
    """
    former = {one.new: one.old for one in found if one.old in live.queues}
    return [_to_former(one, former) if one.key not in live.bindings else one for one in bindings]


def _to_former(one: Binding, former: Mapping[str, str]) -> Binding:
    is_renamed = one.destination_type == "queue" and one.destination in former
    return replace(one, destination=former[one.destination]) if is_renamed else one


def _is_ours(name: str, origin: str, live: Live) -> bool:
    """Return True if FastCommerce has recorded a retry queue, or if the retry queue dead-letters to ``origin``."""
    arguments = live.queues[name].queue.arguments
    target = arguments.get("x-dead-letter-exchange"), arguments.get("x-dead-letter-routing-key")
    return name in live.owned.queues or target == ("", origin)


def _dead_letters(old: str, new: str, objects: Objects, live: Live) -> tuple[str, str] | None:
    """Return the old and the new generated dead-letter queue, or None if the old dead-letter queue must not move."""
    name, retry = f"{old}{DEAD_LETTERS}", objects.retry_delays.get(new)
    if retry is None or name not in live.queues or live.queues[name].queue != dead_letter_queue(name):
        return None
    own = (policy_name("queue", old), policy_name("drain", old))
    policy = live.policies.get(own[0])
    is_ours = policy is not None and policy.definition.get("dead-letter-routing-key") == name
    if name in {one.name for one in objects.queues} or not (is_ours or name in live.owned.queues):
        return None
    bound = {key[2] for key in live.bindings if key[1] == "queue"}
    led = {one.definition.get("dead-letter-routing-key") for key, one in live.policies.items() if key not in own}
    return None if name in bound | led else (name, retry.dead_letter)
