"""One worker process, put together as ``runner.worker.lifecycle`` does, and ended at any moment."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.amqp.consumer import Consumer
from runner.amqp.link import Link
from runner.amqp.publisher import Publisher
from runner.errors import EXIT_BROKER, EXIT_FAILURE
from runner.ipc.crashing_messages import CrashingMessages
from runner.ipc.shared_memory import SharedMemory, SharedMemoryFile
from runner.worker.crash import Hands
from runner.worker.intake import Intake
from runner.worker.pipeline import Pipeline
from runner.worker.routing import EventRouter
from runner.worker.storage import Storage
from runner.worker.trace import Tracer
from tests.simulation.broker import EVENTS
from tests.simulation.connection import Connection
from tests.simulation.database import VirtualStore
from tests.simulation.thread import Condition, Thread

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

SERVICE, QUEUE, NOTES = "jobs", "jobs", "notes"
URLS = ["amqp://broker"]
#: Seconds that a worker has for a stop in good order.
STOP_TIMEOUT = 6.0


class Process:
    """A worker; ``owner`` of virtual threads."""

    def __init__(self, simulation: Simulation, slot: str, number: int) -> None:
        scenario = simulation.scenario
        self.simulation, self.slot, self.name = simulation, slot, f"{slot}#{number}"
        self.clock, self.turns, self.random = simulation.clock, simulation.turns, simulation.random
        self.ledger, self.history = simulation.ledger, simulation.history
        self.alive = True
        self.is_stopping = False
        self.threads: list[Thread] = []
        self.connections: list[Connection] = []
        #: Until when deaths were known for certain as a handler began with a message, by its name.
        self.began: dict[str, float] = {}
        self.file = SharedMemoryFile(self.name)
        self.record = SharedMemory(mmap.mmap(self.file.descriptor, 0))
        self.loop = self
        self.is_stopped = False
        self._round_ends: list[Callable[[], None]] = []
        #: Nobody cuts it off from within; connections are lost by the broker's side.
        self.cut: str | None = None
        self._last_call = 0.0
        log = logging.Logger(self.name, logging.WARNING)
        log.addHandler(_Lines(self))
        suspects = CrashingMessages(mmap.mmap(simulation.dock.file.descriptor, 0, prot=mmap.PROT_READ))
        io: Any = self
        self.publisher = Publisher(io, URLS, self.name, self._ignore, self._missing, window=scenario.window)
        router = EventRouter(SERVICE, {"done": (EVENTS, "done"), "astray": (EVENTS, "astray")})
        storage = Storage("", Path(), self._ignore)
        storage._store = self.store = VirtualStore(self, simulation.database)
        self.intake = Intake(SERVICE, storage, 1e6 if scenario.inbox else None)
        self.pipeline = Pipeline(
            SERVICE, partial(simulation.plugin.handle, self),
            partial(self.publisher.send, timeout=scenario.confirm_timeout),
            lambda delay, callback: self.call(lambda: self.call_later(delay, callback)),
            router, {QUEUE: simulation.ladder}, log,
            on_missing=self._missing, on_crash=lambda: self.stop(EXIT_FAILURE), record=self.record,
            hands=Hands(self.record, suspects, scenario.max_crashes, scenario.concurrency), intake=self.intake,
            tracer=Tracer(SERVICE, slot, NOTES) if scenario.trace else None,
        )  # fmt: skip
        self.consumer = Consumer(
            io, URLS, self.name, [QUEUE], scenario.prefetch, self.pipeline.submit, self._ignore, self._missing,
            at_first=scenario.concurrency,
        )  # fmt: skip

    def start(self) -> None:
        """Begin to work."""
        self.turns.owner = self
        self.publisher.start()
        self.pipeline.start(self.simulation.scenario.concurrency)
        self.consumer.start()

    def connect(self, callbacks: dict[str, Any]) -> Connection:
        """What ``pika.SelectConnection`` does on this process's loop."""
        return Connection(
            self, self.simulation.broker, callbacks["on_open_callback"], callbacks["on_open_error_callback"],
            callbacks["on_close_callback"],
        )  # fmt: skip

    def add(self, link: Link) -> None:
        """``IoThread.add``: its links end with it."""

    def at_round_end(self, callback: Callable[[], None]) -> None:
        """``IoThread.at_round_end``."""
        self._round_ends.append(callback)

    def round(self, callback: Callable[[], None]) -> None:
        """A round of the I/O loop in which one thing happens, unless the process has ended."""
        if self.alive:
            callback()
            for one in self._round_ends:
                one()

    def call(self, callback: Callable[[], None]) -> None:
        """``IoThread.call``: soon, and in order."""
        if self.alive:
            self._last_call = max(self._last_call, self.clock.now + self.random.choice((0.0, 0.0, 0.0001, 0.002)))
            self.clock.at(self._last_call, lambda: self.round(callback))

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """``IOLoop.call_later``."""
        if self.alive:
            self.clock.after(delay, lambda: self.round(callback))

    def stop(self, code: int = 0) -> None:
        """End in good order: asked to (0), or by its own decision."""
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

        self.call(lambda: action(is_done))
        condition.wait_for(lambda: bool(done), 0.5)

    def end(self) -> None:
        """It is no more: nothing of it is heard of, but for what is on its way."""
        self.alive = False
        self.consumer.channel = None
        for connection in self.connections:
            connection.lose("its process ended", is_seen=False)
        for thread in self.threads:
            thread.end()
        self.file.close()

    def _missing(self, reason: str) -> None:
        if self.alive and not self.is_stopping:
            self.history.hit("a wait queue or the dead-letter queue is missing")
            self.history.say(self.name, f"missing: {reason}")
            self.stop(EXIT_BROKER)

    def _ignore(self, _: object) -> None:
        """What is told of the state is not looked at."""


class _Lines(logging.Handler):
    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        if self._process.alive:
            words = record.getMessage()
            self._process.history.say(self._process.name, words.splitlines()[0])
            if words.startswith("a handler thread ended"):
                self._process.history.fail("handler threads", f"ended by {record.exc_info and record.exc_info[1]!r}")
