"""The threads and the clock of the message pipeline, which the simulation replaces."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Runtime:
    """The threads and the clock of this process."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], None],
        on_crash: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        """``call_later`` calls a function after a number of seconds. ``on_crash`` is called when a thread fails."""
        self.call_later, self._on_crash, self._log = call_later, on_crash, log

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    def condition(self) -> threading.Condition:
        """Return a condition variable."""
        return threading.Condition()

    def queue(self) -> SimpleQueue[Any]:
        """Return a thread-safe queue."""
        return SimpleQueue()

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Start a thread."""
        threading.Thread(target=self._run, args=(target,), name=name, daemon=True).start()

    def _run(self, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException:  # noqa: BLE001 - the error is logged, and the worker stops
            self.crash()

    def crash(self) -> None:
        """Log the current exception and stop the worker.

        Otherwise, a worker that has lost a handler thread or a delivery would look healthy.
        """
        self._log.exception("a handler thread crashed")
        self._on_crash()
