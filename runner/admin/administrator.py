"""Changes to a broker's objects, through AMQP if possible, otherwise through RabbitMQ's HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.admin.declaration import declare
from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import look, verified_counts
from runner.admin.queue_rename import QueueRename
from runner.admin.queue_replacement import QueueReplacement
from runner.config.version import QUORUM
from runner.errors import BrokerRefused, BrokerUnreachable, DeclarationRefused
from runner.invocation import invocation
from runner.topology.live import Live, LiveBinding, Owned
from runner.topology.model import Binding, Objects, Policy, Queue
from runner.topology.plan import counted
from runner.topology.rename import Rename

#: Seconds within which thousands of objects must be declared.
DECLARE_TIMEOUT = 300.0
#: Seconds within which a busy quorum queue must report its messages.
ANSWER_TIMEOUT = 8.0


class Administrator:
    """The part of ``apply`` that changes one broker."""

    def __init__(self, urls: Sequence[str], management: Management, on_note: Callable[[str], None]) -> None:
        self._urls, self._management, self._on_note = urls, management, on_note
        self._may_remember = True

    def declare(self, objects: Objects) -> None:
        """Declare the missing objects. Raises DeclarationRefused."""
        refusals = declare(self._urls, objects, DECLARE_TIMEOUT)
        if refusals:
            error = DeclarationRefused("\n".join(one.line for one in refusals))
            error.things = tuple(one.thing for one in refusals)
            raise error

    def put_policy(self, policy: Policy) -> None:
        """Create or change a policy."""
        self._management.put_policy(policy)

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""
        self._management.delete_policy(name)

    def put_binding(self, binding: Binding) -> None:
        """Create a binding that is not in topology.yaml."""
        self.declare(Objects(bindings=(binding,)))

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding."""
        self._management.delete_binding(one)

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange and its bindings."""
        self._management.delete_exchange(name)

    def in_use(self, name: str) -> str | None:
        """Return the reason why a queue must not be deleted, or None if the queue is unused and empty."""
        try:
            url, found = look(self._urls, [name])
            counts = found[name]
            if counts is None:
                return "another client has deleted the queue; apply again"
            messages = max(counts.messages, self._management.messages_of(name) or 0)
            if not messages and self._management.type_of(name) == QUORUM:
                # RabbitMQ also reports 0 messages for a quorum queue that cannot answer, and would delete the queue
                # with its messages.
                counts = verified_counts(url, name, ANSWER_TIMEOUT)
                messages = counts.messages
        except (BrokerUnreachable, BrokerRefused) as error:
            return f"kept, {error}; apply again once the queue answers"
        if messages or counts.consumers:
            held = f"{counted(messages, 'message')} and {counted(counts.consumers, 'consumer')}"
            remedy = f"to empty it: {invocation('purge', name)}; or: {invocation('move', name, 'QUEUE')}"
            if counts.consumers:
                remedy = f"stop its {'consumer' if counts.consumers == 1 else 'consumers'}"
            return f"kept, it has {held}; {remedy}, then apply again after a few seconds"
        return None

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue that is not in use."""
        self._management.delete_queue(queue)

    def remember(self, owned: Owned) -> None:
        """Record the managed objects on the broker. If the user lacks the permission, report the error and continue."""
        if not self._may_remember:
            return
        try:
            self._management.remember(owned)
        except ManagementError as error:
            if not error.is_denied:
                raise
            self._may_remember = False
            self._on_note(
                "the managed objects are not recorded on the broker, so objects removed from topology.yaml will remain"
                f" there: {error}"
            )

    def rename(self, rename: Rename, live: Live, objects: Objects, say: Callable[[str], None]) -> str | None:
        """Rename a queue. The new queue must already be declared. Return the reason if the queue keeps its old name.

        If the rename is interrupted, no messages are lost, and another call continues the rename.
        """
        url, _ = look(self._urls, [])
        return QueueRename(url, self._management, self, rename, objects, say).run(live)

    def move(
        self, queue: Queue, policy: Policy | None, live: Live, objects: Objects, say: Callable[[str], None]
    ) -> None:
        """Replace a queue, and move its messages into the new queue, in order.

        During the replacement, the old messages wait in one extra queue, and new messages wait in another extra queue.
        An interruption loses no messages. Another call continues an interrupted replacement.
        """
        url, _ = look(self._urls, [])
        QueueReplacement(url, self._management, self, queue, policy, objects, say).run(live)
