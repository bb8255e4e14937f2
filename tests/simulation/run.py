"""One run of one seed: build the parts, run all events, and judge the outcome of each message."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass
from functools import partial
from random import Random

from runner.amqp.wire.property_codec import Properties
from runner.messages import Event
from runner.supervisor.crash_blame import CrashTracker
from runner.topology.model import RetryDelays
from tests.simulation import scenario as scenarios
from tests.simulation.broker import Broker, Queue, Stored
from tests.simulation.clock import EPOCH, Clock
from tests.simulation.database import Database
from tests.simulation.fault import Faults
from tests.simulation.history import History
from tests.simulation.ledger import Ledger
from tests.simulation.plugin import Plugin
from tests.simulation.process import NOTES, QUEUE
from tests.simulation.scenario import Plan
from tests.simulation.supervisor import Supervisor
from tests.simulation.thread import Turns
from tests.simulation.verdict import judge

#: Bytes of a header that fits into a message, but not into its copy with a reason.
UNFIT = 131_072 - 200
#: The maximum number of events. A normal run has a few hundred; the limit ends a loop in which no time passes.
MOST_EVENTS = 100_000


@dataclass(frozen=True)
class Report:
    """The result of a run."""

    seed: int
    history: tuple[str, ...]
    windows: Counter[str]
    messages: int
    #: Virtual seconds until the last event.
    seconds: float


class Simulation:
    """All parts of one run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.scenario = scenarios.draw(self.random)
        self.clock = Clock()
        self.history = History(seed, lambda: self.clock.now)
        self.turns = Turns(self.clock, self.history)
        self.broker = Broker(self.clock, self.random, self.history, self._stored)
        self.database = Database(self.random)
        steps = tuple((delay, f"{QUEUE}.retry.{number}") for number, delay in enumerate(self.scenario.steps))
        self.retry_delays = RetryDelays(steps, f"{QUEUE}.dlq")
        self.tracker = CrashTracker("jobs", lambda text, _: self.history.say("blame", text))
        self.ledger = Ledger(self.history, self.clock, self.scenario, self.retry_delays, self.database)
        self.plugin = Plugin(self)
        self.supervisor = Supervisor(self)
        self.declare()

    def declare(self) -> None:
        """Declare the topology as ``runner.topology`` would."""
        for delay, name in self.retry_delays.steps:
            self.broker.declare(Queue(name, ttl=delay, dead_letter=QUEUE))
        self.broker.declare(Queue(QUEUE, dead_letter=self.retry_delays.dead_letter))
        self.broker.declare(Queue(self.retry_delays.dead_letter))
        self.broker.declare(Queue("output"))
        if self.scenario.has_notes:
            self.broker.declare(Queue(NOTES))
        self.broker.bindings["done"] = "output"

    def slowness(self) -> float:
        """Return the seconds that a handler thread needs before it starts."""
        return self.random.choice((0.0, 0.0, 0.0, 0.001, 0.05))

    def run(self) -> None:
        """Run all events, then judge the outcome."""
        self.history.say("scenario", f"{self.scenario}"[:400])
        faults = Faults(self)
        self.ledger.on_step = faults.step
        for plan in self.scenario.messages:
            self.history.say("scenario", f"{plan}")
            for when in plan.times:
                self.clock.at(when, partial(self._publish, plan))
        for number in range(self.scenario.workers):
            self.supervisor.start(f"jobs.{number + 1}")
        events = 0
        while self.clock.step():
            if self.history.violation is not None:
                raise self.history.violation
            events += 1
            if self.clock.now > scenarios.QUIET_BY or events > MOST_EVENTS:
                self.history.fail(
                    "no more events", f"still active {self.clock.now:.0f} s after the start, {events} events"
                )
        judge(self)

    def _publish(self, plan: Plan) -> None:
        """Publish a message as a client that publishes again if the broker does not respond."""
        if self.broker.is_down:
            self.clock.after(0.5, partial(self._publish, plan))
            return
        event = Event("order.created", {"m": plan.name})
        headers = {"x-pad": "x" * UNFIT} if plan.kind == "unfit" else {}
        properties = Properties.of(
            content_type=event.content_type, headers=headers, type=event.type, delivery_mode=2,
            message_id=plan.name if plan.has_id else None, timestamp=int(EPOCH),
        )  # fmt: skip
        self.history.say("client", f"sends {plan.name}")
        self.broker.store(self.broker.queues[QUEUE], "orders", "order.created", properties, event.encoded())

    def _stored(self, queue: str, stored: Stored) -> None:
        self.history.say("broker", f"{queue} has {stored.properties.message_id or 'a message without an id'}")

    def close(self) -> None:
        """Release the shared memory of all processes."""
        for process in self.supervisor.processes.values():
            if process.alive:
                process.end()
        self.tracker.file.close()


def run(seed: int) -> Report:
    """Run a seed. Raises Violation if an invariant is violated."""
    simulation = Simulation(seed)
    # One garbage collection after each run costs a fifth less than many during the run.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        simulation.run()
    finally:
        simulation.close()
        if was_enabled:
            gc.enable()
    history = simulation.history
    return Report(
        seed, tuple(history.lines()), history.windows, len(simulation.scenario.messages), simulation.clock.now
    )
