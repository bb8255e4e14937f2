"""The fault injection of a run, at planned times and at random steps of a message."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.process import Process
from tests.simulation.scenario import FAULTS_END
from tests.simulation.supervisor import ENDS

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

#: The maximum number of workers that are killed from outside in a run. Every fourth such death counts against a
#: message.
MOST_KILLS = 3


class Faults:
    """The injector of faults into a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kills = MOST_KILLS
        # Fewer crashes than a message may have; otherwise a good message would be dead-lettered without a cause.
        self._crashes = simulation.scenario.max_crashes - 1
        self._sabotages = simulation.scenario.most_sabotages
        for when, fault in simulation.scenario.faults:
            simulation.clock.at(when, partial(self.do, fault))
        if simulation.scenario.sabotage:
            simulation.database.forgetfulness = simulation.random.choice((0.0, 0.0, 0.2))
            simulation.broker.blocks = simulation.random.choice((0.0, 0.2))
        simulation.clock.at(FAULTS_END, self._end)

    def _end(self) -> None:
        broker, database = self._simulation.broker, self._simulation.database
        self._sabotages = 0
        broker.is_full, broker.slowness, broker.blocks = False, 0.0, 0.0
        database.is_unreachable, database.forgetfulness = False, 0.0
        self._simulation.declare()
        self._simulation.history.say("faults", "no more faults from now on")

    def step(self, process: Process) -> None:
        """Maybe inject a fault, because a message of this process has reached its next step."""
        simulation = self._simulation
        scenario = simulation.scenario
        if not self._sabotages or not process.alive or simulation.random.random() >= scenario.sabotage:
            return
        self._sabotages -= 1
        fault = simulation.random.choice(("kill", "crash", "lose consumer", "lose publisher", "lose publisher"))
        simulation.clock.after(0.0, partial(self._do, fault, process))

    def do(self, fault: str) -> None:
        """Inject a fault into a worker that is chosen at random."""
        processes = [one for one in self._simulation.supervisor.processes.values() if one.alive]
        if processes:
            self._do(fault, self._simulation.random.choice(processes))

    def _do(self, fault: str, process: Process) -> None:
        simulation = self._simulation
        if not process.alive:
            return
        simulation.history.say("faults", f"{fault} ({process.name})")
        lasting = simulation.random.choice((0.2, 2.0, 5.0))
        broker, database, random = simulation.broker, simulation.database, simulation.random
        match fault:
            case "kill" if self._kills:
                self._kills -= 1
                simulation.supervisor.kill(process, ENDS["killed from outside"])
            case "crash" if self._crashes:
                self._crashes -= 1
                simulation.supervisor.kill(process, ENDS[random.choice(("segfault", "exit 1", "exit 0"))])
            case "stop":
                process.stop()
            case "lose consumer" | "lose publisher":
                self._lose(process, fault)
            case "restart broker":
                broker.restart(lasting)
            case "block publishers":
                self._block(process, lasting)
            case "full queues":
                self._for(lasting, lambda on: setattr(broker, "is_full", on))
            case "database unreachable":
                self._for(lasting, lambda on: setattr(database, "is_unreachable", on))
            case "slow confirms" | "silent confirms":
                seconds = 3.0 if fault == "slow confirms" else 80.0
                self._for(lasting, lambda on: setattr(broker, "slowness", seconds if on else 0.0))
            case "unbind":
                broker.bindings.pop("done", None)
                simulation.clock.after(lasting, simulation.declare)
            case "delete a retry queue" if simulation.retry_delays.steps:
                broker.delete(random.choice(simulation.retry_delays.steps)[1])
            case "delete the dead-letter queue":
                broker.delete(simulation.retry_delays.dead_letter)

    def _for(self, seconds: float, switch: Callable[[bool], None]) -> None:
        switch(True)
        self._simulation.clock.after(seconds, lambda: switch(False))

    def _lose(self, process: Process, fault: str) -> None:
        for connection in list(process.connections):
            channel = connection.the_channel
            if channel is not None and bool(channel.consumer_tags) == (fault == "lose consumer"):
                self._simulation.ledger.lost(process, fault)
                connection.lose("reset by peer")

    def _block(self, process: Process, seconds: float) -> None:
        for connection in process.connections:
            if connection.the_channel is not None and not connection.the_channel.consumer_tags:
                self._simulation.history.hit("a publisher is blocked")
                connection.block(seconds)
