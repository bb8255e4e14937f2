"""The job after an update: it runs once every process has its new program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping

from runner.supervisor.program import Program
from runner.supervisor.service import Service
from runner.supervisor.slot_lifecycle import SlotState


class Sequel:
    """At most one job, on a thread because it blocks. While an old process runs, the job waits for the next update.

    ``on_change`` is called on the loop after a job.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[], None]) -> None:
        self._loop, self._on_change = loop, on_change
        self._job: Callable[[], None] | None = None
        self._programs: Mapping[str, Program] = {}
        self._at_work = 0

    @property
    def is_at_work(self) -> bool:
        """True while a job runs."""
        return self._at_work > 0

    def set(self, job: Callable[[], None] | None, programs: Mapping[str, Program]) -> None:
        """Run ``job`` instead of a waiting one, once all processes have these programs."""
        self._job, self._programs = job, programs

    def advance(self, services: Iterable[Service]) -> None:
        """Begin with the job if nothing of the programs before it runs, or will run, any more."""
        job = self._job
        if job is None or not all(self._is_replaced(one) for one in services if one.program.after_prepare):
            return
        self._job, self._at_work = None, self._at_work + 1

        def work() -> None:
            try:
                job()
            finally:
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._done)

        threading.Thread(target=work, name="sequel", daemon=True).start()

    def _done(self) -> None:
        self._at_work -= 1
        self._on_change()

    def _is_replaced(self, service: Service) -> bool:
        program = self._programs.get(service.name)
        return (
            program is not None
            and service.is_settled
            # One that stops may be the old one yet, although its slot is to run the new program next.
            and all(
                one.program.is_same_process(program) and one.slot.state is not SlotState.STOPPING
                for one in service.everyone()
            )
        )
