"""The replacement of a queue whose properties have changed. The messages keep their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.admin.drain import move_messages
from runner.admin.management import Management
from runner.admin.queue_counts import counts_of
from runner.config.argument import QUEUE_TYPE
from runner.config.cross_checks import GENERATED
from runner.config.policy_pattern import only
from runner.config.version import CLASSIC, QUORUM, STREAM
from runner.errors import RunnerError
from runner.topology.difference import queue_differences
from runner.topology.effective_settings import Policies
from runner.topology.live import DRAIN_SUFFIXES, Live
from runner.topology.model import Objects, Policy, Queue
from runner.topology.plan import counted
from runner.topology.queue_limits import lacks_room

if TYPE_CHECKING:
    from runner.admin.administrator import Administrator

#: The priority of the policy for a drained queue, which is higher than the priorities of the generated policies.
DRAIN_PRIORITY = 2000
#: A delivery limit that is too high to be reached through interruptions.
NO_LIMIT = 1_000_000_000
#: Seconds until RabbitMQ's statistics are correct after a consumer has exited. RabbitMQ collects statistics every 5 s,
#: and less often from a busy queue.
STATISTICS = 30.0


class QueueConsumed(RunnerError):
    """The error for a queue that must be drained but still has consumers."""

    def __init__(self, queue: str, problem: str) -> None:
        super().__init__(f"queue {queue!r}: {problem}")
        self.queue = queue


class QueueReplacement:
    """The replacement of one queue, which may be interrupted at any point and continued by another run."""

    def __init__(
        self,
        url: str,
        management: Management,
        admin: Administrator,
        queue: Queue,
        policy: Policy | None,
        objects: Objects,
        say: Callable[[str], None],
    ) -> None:
        self._url, self._management, self._admin = url, management, admin
        self._queue, self._new_policy, self._objects, self._say = queue, policy, objects, say
        self._old, self._new = (f"{queue.name}{suffix}" for suffix in DRAIN_SUFFIXES)
        self._policy = f"{GENERATED}drain.{queue.name}"

    def run(self, live: Live) -> None:
        """Replace the queue, or continue an interrupted replacement. Raises RunnerError if replacing is not safe."""
        name = self._queue.name
        there = live.queues.get(name)
        version = live.version or None
        policies, held = Policies(self._objects.policies, version), Policies(live.policies.values(), version)
        is_old = there is not None and bool(queue_differences(self._queue, there.queue, policies, held, live.version))
        if there is not None:
            self._check(there.queue, live)
        before = self._count(live)
        wanted = policies.settings_of(self._queue)
        # If the queue does not exist, an interrupted run has already checked that the new queue has enough room.
        found = wanted if there is None else held.settings_of(there.queue)
        if (limit := lacks_room(wanted, found, before)) is not None:
            raise RunnerError(f"queue {name!r}: its {limit}")
        if is_old and there is not None:
            self._set_aside(there.queue)
        self._management.delete_policy(self._policy)
        if self._new_policy is not None:
            self._admin.put_policy(self._new_policy)
        self._admin.declare(Objects(queues=(self._queue,)))
        self._fill()
        after = counts_of(self._url, name).messages
        doubled = "" if is_old else "; messages in flight at the interruption are duplicated, and marked x-redelivered"
        if after < before:
            raise RunnerError(
                f"queue {name!r}: {counted(after, 'message')} in the new queue, but {before} before;"
                " another client removed messages"
            )
        self._say(f"queue {name}: {counted(after, 'message')} in the new queue, {before} before{doubled}")

    def _check(self, there: Queue, live: Live) -> None:
        name = self._queue.name
        if STREAM in (there.type, self._queue.type):
            raise RunnerError(
                f"queue {name!r}: a stream cannot be drained; list it under 'retire', or use another name"
            )
        consumers = counts_of(self._url, name).consumers
        if consumers:
            read = counted(consumers, "consumer")
            raise QueueConsumed(name, f"it has {read}; stop the services that consume the queue, and try again")
        deadline = time.monotonic() + STATISTICS
        # An unknown count is no obstacle, because a queue without a consumer has no unacked messages.
        while (held := self._management.unacknowledged_of(name)) and time.monotonic() < deadline:
            time.sleep(0.5)
        if held:
            raise RunnerError(
                f"queue {name!r}: {counted(held, 'unacked message')}; stop the client that received them, and try again"
            )
        retry = self._objects.retry_delays.get(name)
        for _, retry_queue in retry.steps if retry is not None else ():
            # A classic retry queue drops an expired message if the message's queue does not exist at that moment.
            is_classic = retry_queue in live.queues and live.queues[retry_queue].queue.type == CLASSIC
            waiting = counts_of(self._url, retry_queue).messages if is_classic else 0
            if waiting:
                raise RunnerError(f"queue {retry_queue!r}: {waiting} messages are waiting for a retry; try again later")

    def _count(self, live: Live) -> int:
        names = (self._queue.name, self._old, self._new)
        return sum(counts_of(self._url, name).messages for name in names if name in live.queues)

    def _set_aside(self, there: Queue) -> None:
        """Move the messages of the old queue to one extra queue, and the bindings to another extra queue."""
        if there.type == QUORUM:
            # An interrupted drain counts as a failed delivery, so the delivery limit would dead-letter good messages.
            pattern, definition = only(there.name), {"delivery-limit": NO_LIMIT}
            self._management.put_policy(Policy(self._policy, pattern, "queues", definition, DRAIN_PRIORITY))
        self._admin.declare(Objects(queues=(self._beside(self._old), self._beside(self._new))))
        # An earlier replacement in the same run may have changed the bindings.
        bound = [one for one in self._management.live().bindings.values() if one.binding.destination == there.name]
        bound = [one for one in bound if one.binding.destination_type == "queue"]
        # Each new binding is created before the old binding is removed, so a message may arrive twice but is never
        # lost.
        for one in bound:
            self._admin.put_binding(replace(one.binding, destination=self._new))
        for one in bound:
            self._management.delete_binding(one)
        self._move(there.name, self._old, there.type)

    def _fill(self) -> None:
        """Move the messages and bindings of the two extra queues to the new queue."""
        live = self._management.live()
        if self._old in live.queues:
            self._move(self._old, self._queue.name, self._queue.type)
        if self._new not in live.queues:
            return
        self._move(self._new, self._queue.name, None)
        wanted = [one for one in self._objects.bindings if one.destination_type == "queue"]
        ours = {one.key for one in wanted}
        # New bindings are created before the bindings that they replace are removed.
        self._admin.declare(Objects(bindings=tuple(one for one in wanted if one.destination == self._queue.name)))
        for one in live.bindings.values():
            if (one.binding.destination_type, one.binding.destination) != ("queue", self._new):
                continue
            binding = replace(one.binding, destination=self._queue.name)
            # A managed binding that topology.yaml no longer contains is not recreated.
            if binding.key in ours or binding.key not in live.owned.bindings:
                self._admin.put_binding(binding)
            self._management.delete_binding(one)
        self._move(self._new, self._queue.name, self._queue.type)

    def _beside(self, name: str) -> Queue:
        kind = self._queue.type
        limit = {"x-delivery-limit": NO_LIMIT} if kind == QUORUM else {}
        return Queue(name, True, {QUEUE_TYPE: kind, **limit})

    def _move(self, source: str, target: str, delete: str | None) -> None:
        """Move all messages.

        If the source must be deleted afterwards, ``delete`` is its queue type, and otherwise None.
        """
        name = self._queue.name
        move_messages(
            self._url, source, target, lambda text: self._say(f"queue {name}: {text}"), delete=delete,
            is_aside=target != name,
        )  # fmt: skip
