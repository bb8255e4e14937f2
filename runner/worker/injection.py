"""One fault that was injected and lasts for a while."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass

from runner.worker.identity import Identity


@dataclass(frozen=True)
class Active:
    """One fault that lasts."""

    #: ``slow``, ``cut``, ``hang`` or ``duplicate``.
    fault: str
    #: A service, a slot or a queue; empty for all services.
    target: str
    #: When it began, in seconds since the epoch, and how many seconds it lasts.
    began: float
    seconds: float
    #: Of ``slow``, how many seconds longer each handler takes.
    delay: float = 0.0
    #: The process without which it is over: of ``hang`` the one that is stopped, of ``duplicate`` the command.
    process: Identity | None = None

    @property
    def until(self) -> float:
        """When it is over, in seconds since the epoch."""
        return self.began + self.seconds

    @property
    def clock(self) -> str:
        """The same as the time of day in the machine's own zone."""
        return time.strftime("%H:%M:%S", time.localtime(self.until))

    @property
    def lasts(self) -> bool:
        """Whether it is not over."""
        # Before its beginning it is over too: a clock that is set back would prolong it by as much.
        is_time = self.began <= time.time() < self.until
        return is_time and (self.process is None or self.process.state != "")

    def let_go(self) -> bool:
        """Let the process that a ``hang`` has stopped go on; whether it was stopped. Raises PermissionError."""
        if self.fault != "hang" or self.process is None:
            return False
        state = self.process.state
        if state:
            with contextlib.suppress(ProcessLookupError):
                self.process.send(signal.SIGCONT)
        return state == "T"
