"""The I/O thread of one process, with modelled connections and the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.amqp.link import Link
from tests.simulation.connection import Connection

if TYPE_CHECKING:
    from tests.simulation.process import Process


class VirtualIo:
    """The replacement of ``runner.amqp.io_thread.IoThread``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.loop, self.random = self, process.random
        self.is_stopped = False
        self._round_ends: list[Callable[[], None]] = []
        #: The reason for a cut by the process itself. Here only the broker cuts connections.
        self.cut: str | None = None
        self._last_call = 0.0

    def clock(self) -> float:
        """Return the virtual time."""
        return self._process.clock.now

    def connect(self, _: object, **callbacks: Any) -> Connection:
        """Open a modelled connection, as the real thread does."""
        return Connection(
            self._process, self._process.simulation.broker, callbacks["on_open_callback"],
            callbacks["on_open_error_callback"], callbacks["on_close_callback"],
        )  # fmt: skip

    def add(self, link: Link) -> None:
        """Do nothing: the links end with the process."""

    def at_round_end(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of each round, as the real thread does."""
        self._round_ends.append(callback)

    def round(self, callback: Callable[[], None]) -> None:
        """Run a round of the loop with one event, unless the process has exited."""
        if self._process.alive:
            callback()
            for one in self._round_ends:
                one()

    def call(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` soon and in order, as the real thread does."""
        if self._process.alive:
            delay = self.random.choice((0.0, 0.0, 0.0001, 0.002))
            self._last_call = max(self._last_call, self._process.clock.now + delay)
            self._process.clock.at(self._last_call, lambda: self.round(callback))

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` after ``delay`` seconds, as ``IOLoop.call_later`` does."""
        if self._process.alive:
            self._process.clock.after(delay, lambda: self.round(callback))
