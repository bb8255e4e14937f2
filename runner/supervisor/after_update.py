"""A job that runs after an update, when all processes run their new programs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping

from runner.supervisor.program import Program
from runner.supervisor.service import Service
from runner.supervisor.slot_lifecycle import SlotState


class AfterUpdate:
    """A blocking job that runs on a thread after an update has finished.

    ``set`` replaces a job that has not started. ``on_change`` is called on the event loop after each job.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[], None]) -> None:
        self._loop, self._on_change = loop, on_change
        self._job: Callable[[], None] | None = None
        self._programs: Mapping[str, Program] = {}
        self._running = 0

    @property
    def is_running(self) -> bool:
        """True while a job is running."""
        return self._running > 0

    def set(self, job: Callable[[], None] | None, programs: Mapping[str, Program]) -> None:
        """Run ``job`` as soon as all processes run the given programs. Cancel any job that has not started."""
        self._job, self._programs = job, programs

    def advance(self, services: Iterable[Service]) -> None:
        """Start the job if no process runs, or is about to run, an older program."""
        job = self._job
        if job is None or not all(self._is_replaced(one) for one in services if one.program.after_prepare):
            return
        self._job, self._running = None, self._running + 1

        def work() -> None:
            try:
                job()
            finally:
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._done)

        threading.Thread(target=work, name="after update", daemon=True).start()

    def _done(self) -> None:
        self._running -= 1
        self._on_change()

    def _is_replaced(self, service: Service) -> bool:
        program = self._programs.get(service.name)
        return (
            program is not None
            and service.is_settled
            # The slot may be assigned to the new program while its old process is still stopping.
            and all(
                one.program.is_same_process(program) and one.slot.state is not SlotState.STOPPING
                for one in service.all_keepers()
            )
        )
