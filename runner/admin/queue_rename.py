"""The renaming of a queue with its messages, bindings, retry queues and dead letters. The messages keep their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.admin.drain import MessagesDeleted, move_messages
from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import counts_of
from runner.admin.queue_replacement import DRAIN_PRIORITY, NO_LIMIT, STATISTICS
from runner.config.policy_pattern import only
from runner.config.version import QUORUM, STREAM
from runner.errors import BrokerUnreachable, PublishRefused, RunnerError
from runner.invocation import invocation
from runner.topology.compile import policy_name
from runner.topology.effective_settings import Policies
from runner.topology.live import Live
from runner.topology.model import Objects, Policy
from runner.topology.plan import counted
from runner.topology.queue_limits import lacks_room
from runner.topology.rename import Rename, leads_to

if TYPE_CHECKING:
    from runner.admin.administrator import Administrator

#: Seconds that the broker needs to remove the consumers of a process that has just exited.
CONSUMERS = 3.0


class QueueRename:
    """The renaming of one queue, which may be interrupted at any point and continued by another run."""

    def __init__(
        self,
        url: str,
        management: Management,
        admin: Administrator,
        rename: Rename,
        objects: Objects,
        say: Callable[[str], None],
    ) -> None:
        """``objects`` is the compiled topology. The new queue and its retry queues already exist on the broker."""
        self._url, self._management, self._admin = url, management, admin
        self._rename, self._objects, self._say = rename, objects, say
        self._policy = policy_name("drain", rename.old)
        self._moved = 0
        self._deleted: set[str] = set()

    def run(self, live: Live) -> str | None:
        """Rename the queue, or continue an interrupted run. Return the reason if the queue keeps its old name.

        The bindings are moved after the messages, so that older messages precede newer messages. Raises RunnerError if
        a message cannot be moved.
        """
        try:
            if (reason := self._obstacle(live) or self._relocate(live)) is not None:
                # Deleting the policy restores the old queue's own limits.
                self._admin.delete_policy(self._policy)
        except MessagesDeleted:
            raise
        except RunnerError:
            # Two supervisors that start at the same time may both rename the queue.
            missing = self._missing()
            if not missing:
                raise
            reason = f"another run has just deleted {min(missing)!r}; to finish: {invocation('apply')}"
        return reason

    def _missing(self) -> set[str]:
        """Return the queues that another run has deleted, or an empty set if the broker does not report its queues."""
        try:
            return set(self._rename.sources) - self._deleted - self._management.live().queues.keys()
        except ManagementError:
            return set()

    def _relocate(self, live: Live) -> str | None:
        one = self._rename
        self._say(f"renaming queue {one.old} to {one.new}")
        self._lift_limit(live)
        for source, target in one.retries:
            # Retry queues return messages to the old queue, so the messages in retry queues are moved first.
            if (reason := self._finish(source, target, live)) is not None:
                return reason
        for source in one.queues:
            self._catch_up(source)
        self._rebind()
        for source in one.queues:
            if (reason := self._finish(source, one.new, live)) is not None:
                return reason
        for name in (policy_name("queue", one.old), self._policy):
            self._admin.delete_policy(name)
        if one.dead_letters is not None and (reason := self._finish(*one.dead_letters, live)) is not None:
            return reason
        self._say(f"queue {one.new}: {counted(self._moved, 'message')} moved from {one.old}")
        return None

    def _obstacle(self, live: Live) -> str | None:
        one = self._rename
        for name in one.sources:
            there = live.queues[name]
            if there.queue.type == STREAM:
                remedy = "list it under 'retire', and remove the key 'formerly'"
                return f"{name!r} is a stream, and a stream cannot be moved; {remedy}"
            if there.is_exclusive:
                return f"{name!r} is exclusive to one connection and will be deleted with it; remove the key 'formerly'"
        deadline = time.monotonic() + CONSUMERS
        while read := {name: count for name in one.sources if (count := counts_of(self._url, name).consumers)}:
            if time.monotonic() >= deadline:
                name, count = next(iter(read.items()))
                remedy = f"stop the service that consumes the queue, then run: {invocation('apply')}"
                return f"{name!r} has {counted(count, 'consumer')}; {remedy}"
            time.sleep(0.1)
        held = sum(counts_of(self._url, name).messages for name in (*one.queues, *(name for name, _ in one.retries)))
        limit = lacks_room(*self._settings(live), held and held + counts_of(self._url, one.new).messages)
        return None if limit is None else f"in {one.new!r}, {limit}"

    def _settings(self, live: Live) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the settings of the new queue, and the current settings of the old queue."""
        new = next(one for one in self._objects.queues if one.name == self._rename.new)
        old, version = live.queues.get(self._rename.old), live.version or None
        wanted = Policies(self._objects.policies, version).settings_of(new)
        # If the old queue no longer exists, an earlier run has already checked that the new queue has enough room.
        return wanted, wanted if old is None else Policies(live.policies.values(), version).settings_of(old.queue)

    def _lift_limit(self, live: Live) -> None:
        """Lift the delivery limit, because an interrupted drain counts as a failed delivery of each unacked message."""
        old = live.queues.get(self._rename.old)
        if old is not None and old.queue.type == QUORUM:
            definition = {"delivery-limit": NO_LIMIT}
            policy = Policy(self._policy, only(old.queue.name), "queues", definition, DRAIN_PRIORITY)
            self._admin.put_policy(policy)

    def _catch_up(self, source: str) -> None:
        """Move messages while the queue still gets new messages, so that few remain when the bindings are moved."""
        held = counts_of(self._url, source).messages
        if held:
            self._move(source, self._rename.new, enough=held)

    def _rebind(self) -> None:
        """Bind the new queue, then unbind the old queue. Between the two steps, both queues get each message."""
        one, live = self._rename, self._management.live()
        wanted = tuple(binding for binding in self._objects.bindings if leads_to(binding, one.new))
        self._admin.declare(Objects(bindings=wanted))
        ours = {replace(binding, destination=name).key for binding in wanted for name in one.queues}
        there = [found for key, found in live.bindings.items() if one.brings(key)]
        for found in there:
            # A managed binding is kept only if topology.yaml still contains it.
            if found.binding.key not in ours | live.owned.bindings:
                self._admin.put_binding(one.moved(found.binding))
        for found in there:
            self._admin.delete_binding(found)

    def _finish(self, source: str, target: str, live: Live) -> str | None:
        """Move all messages, and delete the empty queue. Return the reason if the queue is kept."""
        self._move(source, target)
        deadline = time.monotonic() + STATISTICS
        while (reason := self._admin.in_use(source)) is not None and time.monotonic() < deadline:
            # The statistics may be a few seconds old.
            time.sleep(0.5)
            if counts_of(self._url, source).messages:
                self._move(source, target)
        if reason is not None:
            return f"{source!r}: {reason}"
        try:
            self._move(source, target, delete=live.queues[source].queue.type)
        except (BrokerUnreachable, PublishRefused, MessagesDeleted):
            raise
        except RunnerError as error:
            return f"{error}; to continue: {invocation('apply')}"
        return None

    def _move(self, source: str, target: str, *, delete: str | None = None, enough: int | None = None) -> None:
        """Move all messages, or ``enough`` messages.

        If the source must be deleted afterwards, ``delete`` is its queue type. Otherwise, ``delete`` is None.
        """
        self._moved += move_messages(
            self._url, source, target, lambda text: self._say(f"queue {source}: {text}"), delete=delete, enough=enough,
            names=self._rename.names,
        )  # fmt: skip
        self._deleted |= {source} if delete is not None else set()
