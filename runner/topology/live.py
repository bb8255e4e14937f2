"""The objects on a broker, and the record of the objects that FastCommerce created."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

#: The suffixes of the two queues in which ``apply --drain`` keeps a queue's old messages and new messages.
DRAIN_SUFFIXES = (".drain.old", ".drain.new")
#: The name suffix of the stand-in for an exchange that ``apply`` replaces.
STAND_IN = ".replace.new"

BindingKey = tuple[str, str, str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class LiveQueue:
    """A queue on the broker. The counts come from RabbitMQ's statistics, and may be unknown or a few seconds old."""

    queue: Queue
    messages: int | None = 0
    consumers: int | None = 0
    is_exclusive: bool = False


@dataclass(frozen=True)
class LiveBinding:
    """A binding on the broker, and its name in the HTTP API."""

    binding: Binding
    properties_key: str = "~"


@dataclass(frozen=True)
class Owned:
    """The names of the objects that FastCommerce created. A binding is identified by its key."""

    exchanges: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    bindings: frozenset[BindingKey] = frozenset()
    #: The time at which FastCommerce became the owner of each binding, in milliseconds since the epoch, if known.
    since: Mapping[BindingKey, int] = field(default_factory=dict, compare=False)
    #: The current names of renamed queues, by their previous names.
    renamed: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, objects: Objects) -> Owned:
        """Return the names of the objects in a compiled topology."""
        return cls(
            frozenset(one.name for one in objects.exchanges),
            frozenset(one.name for one in objects.queues),
            frozenset(one.name for one in objects.policies),
            frozenset(one.key for one in objects.bindings),
        )

    def __or__(self, other: Owned) -> Owned:
        return Owned(
            self.exchanges | other.exchanges,
            self.queues | other.queues,
            self.policies | other.policies,
            self.bindings | other.bindings,
        )

    def still_in(self, live: Live) -> Owned:
        """Return a copy that contains only objects that still exist on the broker."""
        return Owned(
            self.exchanges & live.exchanges.keys(),
            self.queues & live.queues.keys(),
            self.policies & live.policies.keys(),
            self.bindings & live.bindings.keys(),
        )

    def dated(self, before: Owned, now: int) -> Owned:
        """Return a copy with the previous queue names and the binding times from ``before``.

        A new binding gets the time ``now``. A binding that is recreated after another client removed it keeps its time,
        because messages were lost in between.
        """
        known = {key: before.since[key] for key in self.bindings & before.since.keys()}
        since = known | dict.fromkeys(self.bindings - before.bindings, now)
        renamed = {old: new for old, new in before.renamed.items() if new in self.queues}
        return replace(self, since=since, renamed=renamed)

    def with_rename(self, old: str, new: str) -> Owned:
        """Return a copy in which ``old`` and all its previous names are previous names of ``new``."""
        names = {name: new if present == old else present for name, present in self.renamed.items()} | {old: new}
        # After a queue is renamed back to an earlier name, that name is no longer a previous name.
        return replace(self, renamed={name: present for name, present in names.items() if name != present})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the broker stores."""
        return {
            "exchanges": sorted(self.exchanges),
            "queues": sorted(self.queues),
            "policies": sorted(self.policies),
            "bindings": [[*key[:4], [list(pair) for pair in key[4]]] for key in sorted(self.bindings)],
            # The times are in the order of the bindings.
            "since": [self.since.get(key) for key in sorted(self.bindings)],
            "renamed": dict(sorted(self.renamed.items())),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Owned:
        """Return the names from a JSON object that ``to_json`` returned. Unknown keys are ignored."""
        bindings: Iterable[Any] = data.get("bindings", ())
        keys = [(a, b, c, d, tuple((name, value) for name, value in rest)) for a, b, c, d, rest in bindings]
        # Older versions did not store times.
        times: Iterable[Any] = data.get("since", ())
        return cls(
            frozenset(data.get("exchanges", ())),
            frozenset(data.get("queues", ())),
            frozenset(data.get("policies", ())),
            frozenset(keys),
            {key: int(time) for key, time in zip(keys, times, strict=False) if time is not None},
            dict(data.get("renamed", {})),
        )


@dataclass(frozen=True)
class Live:
    """The objects of one vhost, without the predefined exchanges."""

    #: The broker's version, such as (3, 10, 8).
    version: tuple[int, ...] = ()
    #: The deprecated features that the broker denies. None if the broker does not report them, which is the case before
    #: RabbitMQ 4.1.
    denied: frozenset[str] | None = None
    exchanges: Mapping[str, Exchange] = field(default_factory=dict)
    queues: Mapping[str, LiveQueue] = field(default_factory=dict)
    bindings: Mapping[BindingKey, LiveBinding] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    owned: Owned = Owned()
    #: The exchange types of the broker and its plugins. Empty if the types are unknown.
    exchange_types: frozenset[str] = frozenset()

    def settled(self) -> Live:
        """Return a copy in which bindings that interrupted replacements moved have their usual source and target."""
        aside = {("queue", name) for name in self.queues if name.endswith(DRAIN_SUFFIXES[1])}
        aside |= {("exchange", name) for name in self.exchanges if name.endswith(STAND_IN)}
        if not aside:
            return self
        bindings: dict[BindingKey, LiveBinding] = {}
        for key, one in self.bindings.items():
            ends = {("exchange", one.binding.source), (one.binding.destination_type, one.binding.destination)}
            if not ends & aside:
                bindings[key] = one
        for one in self.bindings.values():
            if is_entrance(one.binding):
                continue
            source = one.binding.source.removesuffix(STAND_IN)
            suffix = DRAIN_SUFFIXES[1] if one.binding.destination_type == "queue" else STAND_IN
            settled = replace(one.binding, source=source, destination=one.binding.destination.removesuffix(suffix))
            bindings.setdefault(settled.key, LiveBinding(settled, one.properties_key))
        return replace(self, bindings=bindings)


def is_entrance(binding: Binding) -> bool:
    """Return True if a binding routes messages from an exchange that is being replaced to its stand-in."""
    return binding.destination_type == "exchange" and binding.destination == f"{binding.source}{STAND_IN}"
