"""One worker process, built as in ``runner.worker.lifecycle``, that can be ended at any moment."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from runner.amqp.consumer import Consumer
from runner.amqp.publisher import Publisher
from runner.errors import EXIT_BROKER
from runner.ipc.crashing_messages import CrashingMessages
from runner.ipc.shared_memory import SharedMemory, SharedMemoryFile
from runner.worker.crash_protection import CrashProtection
from runner.worker.deduplication import Deduplication
from runner.worker.event_routing import EventRouter
from runner.worker.handler import PluginHandler, surrounded
from runner.worker.pipeline import Pipeline
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import Retries
from runner.worker.step_recorder import StepRecorder
from tests.simulation.broker import EVENTS
from tests.simulation.clock import EPOCH
from tests.simulation.connection import Connection
from tests.simulation.database import VirtualStore
from tests.simulation.io import VirtualIo
from tests.simulation.thread import Condition, Room, Thread, VirtualRuntime

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

SERVICE, QUEUE, NOTES = "jobs", "jobs", "notes"
URLS = ["amqp://broker"]
#: Seconds that a worker has for a graceful stop.
STOP_TIMEOUT = 6.0


class Process:
    """A worker, the ``owner`` of virtual threads."""

    def __init__(self, simulation: Simulation, slot: str, number: int) -> None:
        scenario = simulation.scenario
        self.simulation, self.slot, self.name = simulation, slot, f"{slot}#{number}"
        self.clock, self.turns, self.random = simulation.clock, simulation.turns, simulation.random
        self.ledger, self.history = simulation.ledger, simulation.history
        self.alive = True
        self.is_stopping = False
        self.threads: list[Thread] = []
        self.connections: list[Connection] = []
        #: By message: the time up to which all deaths were known when its handler started.
        self.began: dict[str, float] = {}
        self.file = SharedMemoryFile(self.name)
        self.record = SharedMemory(mmap.mmap(self.file.descriptor, 0))
        log = logging.Logger(self.name, logging.WARNING)
        log.addHandler(_Lines(self))
        crashing = CrashingMessages(mmap.mmap(simulation.tracker.file.descriptor, 0, prot=mmap.PROT_READ))
        self.io = VirtualIo(self)
        io: Any = self.io
        self.publisher = Publisher(io, URLS, self.name, self._ignore, self._missing, Room(self.turns, scenario.window))
        self.store = VirtualStore(self, simulation.database)
        storage: Any = SimpleNamespace(get=lambda: self.store, plugin=SERVICE)
        router = EventRouter(SERVICE, {"done": (EVENTS, "done"), "astray": (EVENTS, "astray")})
        runtime = VirtualRuntime(
            self.turns, self, lambda delay, callback: self.io.call(lambda: self.io.call_later(delay, callback)),
            simulation.slowness,
        )  # fmt: skip
        self.deduplication = Deduplication(SERVICE, storage, 1e6 if scenario.inbox else None, router)
        recorder = None
        if scenario.trace:
            now = runtime.monotonic
            recorder = AttemptRecorder(SERVICE, slot, NOTES, log, lambda: EPOCH + now(), now)
        protection = CrashProtection(
            self.record, crashing, scenario.max_crashes, scenario.concurrency, runtime.condition, self.turns.sleep
        )
        plugin = PluginHandler(SERVICE, router, partial(simulation.plugin.handle, self))
        self.pipeline = Pipeline(
            surrounded(plugin, self.deduplication, recorder, protection),
            partial(self.publisher.send, timeout=scenario.confirm_timeout),
            Retries(SERVICE, {QUEUE: simulation.retry_delays}), recorder, self.record,
            StepRecorder(self.record.steps, NOTES), runtime, self._missing, log,
        )  # fmt: skip
        self.consumer = Consumer(
            io, URLS, self.name, [QUEUE], scenario.prefetch, self.pipeline.submit, self._ignore, self._missing,
            at_first=scenario.concurrency,
        )  # fmt: skip

    def start(self) -> None:
        """Start consuming."""
        self.publisher.start()
        self.pipeline.start(self.simulation.scenario.concurrency)
        self.consumer.start()

    def stop(self, code: int = 0) -> None:
        """Stop gracefully: ``code`` is 0 if the process was asked to stop."""
        if self.is_stopping or not self.alive:
            return
        self.is_stopping = True
        self.record.leaving()
        self.history.say(self.name, f"stops, exit {code}")
        Thread(self.turns, self, self._shut_down, (code,)).start()

    def _shut_down(self, code: int) -> None:
        self._on_io(self.consumer.cancel)
        self.pipeline.stop(STOP_TIMEOUT - 2.0)
        self._on_io(self.consumer.close)
        self._on_io(self.publisher.close)
        self.store.close(0.5)
        self.clock.after(0.0, partial(self.simulation.supervisor.ended, self, code))
        self.turns.sleep(1.0)

    def _on_io(self, action: Callable[[Callable[[], None]], None]) -> None:
        done: list[None] = []
        condition = Condition(self.turns)

        def is_done() -> None:
            done.append(None)
            condition.notify_all()

        self.io.call(lambda: action(is_done))
        condition.wait_for(lambda: bool(done), 0.5)

    def end(self) -> None:
        """End the process at once. Only frames that are already on their way still arrive."""
        self.alive = False
        self.consumer.channel = None
        for connection in self.connections:
            connection.lose("its process exited", is_seen=False)
        for thread in self.threads:
            thread.end()
        self.file.close()

    def _missing(self, reason: str) -> None:
        if self.alive and not self.is_stopping:
            self.history.hit("a retry queue or the dead-letter queue is missing")
            self.history.say(self.name, f"missing: {reason}")
            self.stop(EXIT_BROKER)

    def _ignore(self, _: object) -> None:
        """Ignore a change of state."""


class _Lines(logging.Handler):
    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        if self._process.alive:
            self._process.history.say(self._process.name, record.getMessage().splitlines()[0])
