"""A small broker in memory that handles declarations, policies and bindings as RabbitMQ does, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from runner.admin import queue_rename, queue_replacement
from runner.admin.administrator import Administrator
from runner.admin.queue_counts import QueueCounts
from runner.errors import BrokerUnreachable, DeclarationRefused
from runner.topology.live import BindingKey, Live, LiveBinding, LiveQueue, Owned
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue
from runner.topology.offline_routing import OfflineRouter
from runner.topology.rename import Rename


class BrokerModel(Administrator):
    """A replacement for the administrator, and for the HTTP API that the replacement of a queue uses."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self.messages: dict[str, list[int]] = {}
        self.bindings: dict[BindingKey, Binding] = {}
        self.policies: dict[str, Policy] = {}
        self.remembered = Owned()
        #: The function that is called after each step, with its description.
        self.watch: Callable[[str], None] = lambda _: None
        #: The number of the step before which the connection is lost.
        self.fails_at = -1
        self.steps = 0

    def _begin(self) -> None:
        if self.steps == self.fails_at:
            self.steps += 1
            raise BrokerUnreachable("the connection is lost")
        self.steps += 1

    def live(self) -> Live:
        """Return all objects, as the HTTP API lists them."""
        return Live(
            version=(3, 10, 8),
            exchanges=dict(self.exchanges),
            queues={name: LiveQueue(one, len(self.messages[name])) for name, one in self.queues.items()},
            bindings={key: LiveBinding(one) for key, one in self.bindings.items()},
            policies=dict(self.policies),
            owned=self.remembered,
        )

    def objects(self) -> Objects:
        """Return all objects in the form of their declarations."""
        return Objects(
            tuple(self.exchanges.values()),
            tuple(self.queues.values()),
            tuple(self.bindings.values()),
            tuple(self.policies.values()),
        )

    def router(self, *, with_alternates: bool) -> OfflineRouter:
        """Return a router with the present bindings."""
        return router_of(self.objects(), with_alternates=with_alternates)

    # As ``Broker``.

    def declare(self, objects: Objects) -> None:
        """Declare each object or refuse it. A refusal does not prevent the other objects."""
        refused: list[Any] = []
        for exchange in objects.exchanges:
            self._begin()
            if self.exchanges.setdefault(exchange.name, exchange) != exchange:
                refused.append(exchange)
            self.watch(f"declare {exchange.name}")
        for queue in objects.queues:
            self._begin()
            if self.queues.setdefault(queue.name, queue) != queue:
                refused.append(queue)
            self.messages.setdefault(queue.name, [])
            self.watch(f"declare {queue.name}")
        for one in objects.bindings:
            self._begin()
            ends = self.queues if one.destination_type == "queue" else self.exchanges
            if one.source in self.exchanges and one.destination in ends:
                self.bindings.setdefault(one.key, one)
            else:
                refused.append(one)
            self.watch(f"bind {one.key}")
        if refused:
            error = DeclarationRefused(f"refused: {refused}")
            error.things = tuple(refused)
            raise error

    def put_policy(self, policy: Policy) -> None:
        """Create or change a policy."""
        self._begin()
        self.policies[policy.name] = policy
        self.watch(f"put policy {policy.name}")

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""
        self._begin()
        self.policies.pop(name, None)
        self.watch(f"delete policy {name}")

    def put_binding(self, binding: Binding) -> None:
        """Create a binding."""
        self.declare(Objects(bindings=(binding,)))

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding."""
        self._begin()
        self.bindings.pop(one.binding.key, None)
        self.watch(f"unbind {one.binding.key}")

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange with its bindings."""
        self._begin()
        self.exchanges.pop(name, None)
        self._unbind("exchange", name)
        self.watch(f"delete exchange {name}")

    def in_use(self, name: str) -> str | None:
        """Return the reason to keep a queue, or None."""
        return "kept, it holds messages" if self.messages[name] else None

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue with its bindings."""
        self._begin()
        self.queues.pop(queue.name, None)
        assert not self.messages.pop(queue.name, []), f"{queue.name} was deleted with messages"
        self._unbind("queue", queue.name)
        self.watch(f"delete queue {queue.name}")

    def _unbind(self, kind: str, name: str) -> None:
        gone = (("exchange", name), (kind, name))
        self.bindings = {
            key: one
            for key, one in self.bindings.items()
            if (one.destination_type, one.destination) != gone[1] and (kind == "queue" or one.source != name)
        }

    def remember(self, owned: Owned) -> None:
        """Store the names of our objects."""
        self._begin()
        self.remembered = owned
        self.watch("remember")

    def move(
        self, queue: Queue, policy: Policy | None, live: Live, objects: Objects, say: Callable[[str], None]
    ) -> None:
        """Replace a queue with the code that replaces it on RabbitMQ."""
        management: Any = self
        with (
            mock.patch.object(queue_replacement, "counts_of", lambda _, name: QueueCounts(len(self.messages[name]), 0)),
            mock.patch.object(queue_replacement, "move_messages", self._move_messages),
        ):
            queue_replacement.QueueReplacement("", management, self, queue, policy, objects, say).run(live)

    def rename(self, rename: Rename, live: Live, objects: Objects, say: Callable[[str], None]) -> str | None:
        """Rename a queue with the code that renames it on RabbitMQ."""
        management: Any = self
        with (
            mock.patch.object(queue_rename, "counts_of", lambda _, name: QueueCounts(len(self.messages[name]), 0)),
            mock.patch.object(queue_rename, "move_messages", self._move_messages),
        ):
            return queue_rename.QueueRename("", management, self, rename, objects, say).run(live)

    def unacknowledged_of(self, _: str) -> int:
        """Return 0: the model has no consumers."""
        return 0

    def _move_messages(
        self, url: str, source: str, target: str, say: object, *, delete: str | None = None, **options: object
    ) -> int:
        moved = len(self.messages[source])
        while self.messages[source]:
            self._begin()
            self.messages[target].append(self.messages[source][0])
            self.watch(f"copy from {source} to {target}")
            self._begin()
            self.messages[source].pop(0)
            self.watch(f"acknowledge in {source}")
        if delete is not None:
            self.delete_queue(self.queues[source])
        return moved


def router_of(objects: Objects, *, with_alternates: bool) -> OfflineRouter:
    """Return a router for some objects, with or without their alternate exchanges."""
    return OfflineRouter(objects if with_alternates else replace(objects, policies=(), exchanges=_bare(objects)))


def _bare(objects: Objects) -> tuple[Exchange, ...]:
    return tuple(Exchange(one.name, one.type) for one in objects.exchanges)
