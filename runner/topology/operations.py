"""The operations of ``apply`` on a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.topology.live import Live, LiveBinding, Owned
from runner.topology.model import Binding, Objects, Policy, Queue
from runner.topology.rename import Rename


class Operations(Protocol):
    """The operations on a broker; ``runner.admin.administrator`` implements them for RabbitMQ."""

    def declare(self, objects: Objects) -> None:
        """Declare the missing objects. Raises DeclarationRefused."""

    def put_policy(self, policy: Policy) -> None:
        """Create or change a policy."""

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""

    def put_binding(self, binding: Binding) -> None:
        """Create a binding, without remembering it as ours."""

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding."""

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange, with its bindings."""

    def in_use(self, name: str) -> str | None:
        """Return the reason to keep a queue, or None: it has a ready or unacked message, or a consumer."""

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue that is not in use."""

    def move(
        self, queue: Queue, policy: Policy | None, live: Live, objects: Objects, say: Callable[[str], None]
    ) -> None:
        """Replace a queue, and move its messages into the new queue, which has ``policy``."""

    def rename(self, rename: Rename, live: Live, objects: Objects, say: Callable[[str], None]) -> str | None:
        """Move a queue to its new name, which is declared; return the reason if it keeps the old name."""

    def remember(self, owned: Owned) -> None:
        """Store the names of the objects that are ours."""
