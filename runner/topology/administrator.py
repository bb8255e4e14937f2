"""What ``apply`` asks of a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.topology.live import Live, LiveBinding, Owned
from runner.topology.model import Binding, Objects, Policy, Queue


class Broker(Protocol):
    """What is done on a broker; ``runner.amqp.admin`` does it on RabbitMQ."""

    def declare(self, objects: Objects) -> None:
        """Declare what is not there yet. Raises DeclarationRefused."""

    def put_policy(self, policy: Policy) -> None:
        """Create or change a policy."""

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""

    def put_binding(self, binding: Binding) -> None:
        """Create a binding that is not ours."""

    def delete_binding(self, one: LiveBinding) -> None:
        """Delete a binding."""

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange, with its bindings."""

    def in_use(self, name: str) -> str | None:
        """Why a queue is kept: it holds a message, also one in somebody's hands, or has a consumer."""

    def delete_queue(self, queue: Queue) -> None:
        """Delete a queue that is not in use."""

    def move(
        self, queue: Queue, policy: Policy | None, live: Live, objects: Objects, say: Callable[[str], None]
    ) -> None:
        """Replace a queue, with its messages moved into the new one, which has ``policy``."""

    def remember(self, owned: Owned) -> None:
        """Remember what is ours."""
