"""A supervisor that restarts workers and judges deaths by the product's crash blame."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runner.supervisor.crash_blame import Death
from runner.supervisor.slot_lifecycle import Slot, SlotState
from runner.worker.crash_protection import NOTICE_TIME
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


@dataclass(frozen=True)
class End:
    """A way in which a worker dies."""

    code: int
    why: str = ""
    is_oom: bool = False
    is_over_memory: bool = False

    @property
    def is_outside(self) -> bool:
        """True if docs/delivery.md counts only every fourth such death against a message."""
        return self.code == -signal.SIGKILL and not self.why and not self.is_oom


ENDS = {
    "segfault": End(-signal.SIGSEGV),
    "exit 0": End(0),
    "exit 1": End(1),
    "hang": End(-signal.SIGABRT, "a handler hangs"),
    "out of memory": End(-signal.SIGKILL, is_oom=True),
    "over memory_max": End(-signal.SIGKILL, "took 300 MiB", is_over_memory=True),
    "killed from outside": End(-signal.SIGKILL),
}


class Supervisor:
    """The part of a supervisor that concerns messages."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._number = 0
        self.processes: dict[str, Process] = {}

    def start(self, slot: str) -> None:
        """Declare the topology and start a worker in this slot."""
        self._simulation.declare()
        self._number += 1
        self.processes[slot] = process = Process(self._simulation, slot, self._number)
        self._simulation.history.say(process.name, "starts")
        process.start()

    def kill(self, process: Process, end: End) -> None:
        """Kill a worker now, in any state."""
        if process.alive:
            self._simulation.ledger.died(process, end)
            self._bury(process, end.code, end)

    def ended(self, process: Process, code: int) -> None:
        """Record that a worker has stopped gracefully."""
        if process.alive:
            self._bury(process, code, End(code))

    def _bury(self, process: Process, code: int, end: End) -> None:
        simulation = self._simulation
        messages, is_leaving = process.file.messages(), process.file.is_leaving
        simulation.history.say(process.name, f"exits, {code} {end.why}, unacked: {[one.id for one in messages]}")
        is_asked = (process.is_stopping and code == 0) or end.is_over_memory
        slot = Slot(process.slot, state=SlotState.STOPPING if is_asked else SlotState.RUNNING, why=end.why)
        death = Death(slot, code, end.is_over_memory, end.is_oom, is_leaving)
        process.end()
        random = simulation.random
        noticed = random.uniform(0.001, 0.9 * NOTICE_TIME)
        simulation.clock.after(noticed, partial(simulation.tracker.blame, death, messages))
        simulation.clock.after(noticed + random.choice((0.0, 0.05, 0.5, 2.0)), partial(self.start, process.slot))
