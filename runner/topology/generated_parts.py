"""The generated parts of an exchange or queue: its policy, retry queues and dead-letter queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from runner.topology.compile import owner_of_policy
from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Exchange, Node, Objects, Policy, Queue
from runner.topology.plan import Change, Mark


class GeneratedParts:
    """The generated parts of all exchanges and queues, with their owners."""

    def __init__(self, objects: Objects, live: Live) -> None:
        self._objects, self._live = objects, live
        self._origins = {step: name for name, retry in objects.retry_delays.items() for _, step in retry.steps}
        self._owners: dict[str, list[str]] = defaultdict(list)
        for name, retry in objects.retry_delays.items():
            if retry.dead_letter in objects.generated:
                self._owners[retry.dead_letter].append(name)
        written = {one.name for one in objects.queues} - objects.generated
        for name in sorted((live.owned.queues & live.queues.keys()) - written):
            origin, word, _ = name.partition(".retry.")
            if word and name not in self._origins:
                self._origins[name] = origin
        self._steps: dict[str, list[str]] = defaultdict(list)
        for step, name in self._origins.items():
            self._steps[name].append(step)

    @cached_property
    def policies(self) -> Policies:
        """The policies that topology.yaml requires."""
        return Policies(self._objects.policies, self._live.version or None)

    @cached_property
    def _things(self) -> dict[Node, Exchange | Queue]:
        exchanges = {("exchange", one.name): one for one in self._objects.exchanges}
        return {**exchanges, **{("queue", one.name): one for one in self._objects.queues}}

    def steps(self, queue: str) -> list[str]:
        """Return the retry queues of a queue, including those for delays that are no longer in topology.yaml."""
        return self._steps.get(queue, [])

    def owners(self, dead_letter: str) -> list[str]:
        """Return the queues for which a dead-letter queue was generated."""
        return self._owners.get(dead_letter, [])

    def root(self, kind: str, name: str) -> Node:
        """Return the exchange or queue to which a part belongs, or the object itself if it is not a generated part."""
        return (kind, self._origins.get(name, name)) if kind == "queue" else (kind, name)

    def node(self, change: Change) -> Node:
        """Return the exchange, queue or policy that a change affects. The change must not affect a binding."""
        if isinstance(change.thing, Policy):
            return owner_of_policy(change.name) or ("policy", change.name)
        if change.new_name:
            return (change.kind, change.new_name)
        return self.root(change.kind, change.name)

    def members(self, node: Node) -> Iterator[Node]:
        """Yield an exchange, or a queue and its retry queues."""
        yield node
        if node[0] == "queue":
            yield from (("queue", step) for step in self.steps(node[1]))

    def is_own_dead_letter_queue(self, change: Change) -> bool:
        """Return True if a change creates a generated dead-letter queue."""
        return change.mark is Mark.CREATE and change.kind == "queue" and bool(self.owners(change.name))

    def is_generated(self, change: Change) -> bool:
        """Return True if the changed object is generated."""
        if isinstance(change.thing, Policy):
            return owner_of_policy(change.name) is not None
        return change.kind == "queue" and (change.name in self._objects.generated or change.name in self._origins)

    def wanted_policy(self, node: Node) -> Policy | None:
        """Return the policy in topology.yaml that applies to an exchange or queue."""
        thing = self._things.get(node)
        return None if thing is None else self.policies.applying(thing)

    def live_things(self, node: Node) -> Iterator[Exchange | Queue]:
        """Yield an exchange, or a queue and its retry queues, with their settings on the broker."""
        for kind, name in self.members(node):
            if kind == "queue" and name in self._live.queues:
                yield self._live.queues[name].queue
            elif kind == "exchange" and name in self._live.exchanges:
                yield self._live.exchanges[name]
