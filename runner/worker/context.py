"""What the worker offers a plugin's hooks."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from runner.amqp.publisher import Publisher
from runner.messages import Event
from runner.worker.routing import Router


class WorkerContext:
    """Implements ``runner.hooks.Context``."""

    def __init__(
        self,
        service: str,
        slot: str,
        log: logging.Logger,
        publisher: Publisher,
        router: Router,
        on_ready: Callable[[str], None],
        stopping: threading.Event,
    ) -> None:
        self.service, self.slot, self.log = service, slot, log
        self._publisher, self._router, self._on_ready, self._stopping = publisher, router, on_ready, stopping

    def publish(self, event: Event) -> Future[None]:
        """Publish from any thread; see ``runner.hooks.Context``."""
        complete = replace(event, id=event.id or str(uuid.uuid4()), app_id=event.app_id or self.service)
        return self._publisher.publish(self._router.routed(complete))

    def ready(self, status: str = "") -> None:
        """Tell the supervisor that the service does its work."""
        self._on_ready(status)

    def broker_problem(self) -> str | None:
        """Why nothing can be published now, or None."""
        problem = self._publisher.problem()
        return None if problem is None else str(problem)

    def wait_stop(self, timeout: float | None = None) -> bool:
        """Wait for the stop; True when it has come."""
        return self._stopping.wait(timeout)
