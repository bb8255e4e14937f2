"""A writer of log lines that runs on its own thread, so that the supervisor never waits for a slow reader or disk.

Waking the thread takes longer than writing a line. Therefore, only the first line after a pause is written immediately.
In a steady stream, all lines that arrive within ``PAUSE`` seconds are written together.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from runner.supervisor.output.line import InOrder, Line

#: The maximum number of waiting lines, and their maximum size in bytes. Above a limit, the oldest lines are dropped and
#: counted.
MAX_WAITING = 10_000
MAX_BYTES = 16 * 1024 * 1024
#: Seconds between batches of lines, unless ``MANY`` lines are waiting.
PAUSE = 0.004
MANY = 500


class LineWriter(ABC):
    """A queue that accepts lines from any thread, and passes them to ``write`` in order and in batches."""

    def __init__(self, name: str, hold: float = 0.0) -> None:
        """``hold`` is the number of seconds for which a line waits for older lines from other processes."""
        self._held = InOrder(hold)
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._dropped = 0
        self._wake = threading.Condition()
        self._closing = self._is_over = False
        #: True while no line is waiting and the thread sleeps.
        self._is_idle = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, lines: Sequence[Line]) -> None:
        """Queue lines without blocking."""
        size = sum([len(line.text) for line in lines])
        with self._wake:
            if self._is_over:
                return
            self._lines.extend(lines)
            self._bytes += size
            while len(self._lines) > MAX_WAITING or self._bytes > MAX_BYTES:
                self._bytes -= len(self._lines.popleft().text)
                self._dropped += 1
            if self._is_idle or len(self._lines) >= MANY:
                self._is_idle = False
                self._wake.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Wait at most ``timeout`` seconds until the remaining lines are written."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    @abstractmethod
    def write(self, lines: Sequence[Line], dropped: int) -> bool:
        """Write a batch of lines.

        ``dropped`` lines before the batch are missing. Return False if no more lines can be written.
        """

    def finish(self) -> None:  # noqa: B027 - most writers need no cleanup
        """Release resources after the last batch."""

    def _run(self) -> None:
        while True:
            with self._wake:
                self._await_lines()
                lines, dropped, is_last = list(self._lines), self._dropped, self._closing
                self._lines.clear()
                self._bytes = self._dropped = 0
            self._held.add(lines)
            ready = self._held.take(everything=is_last)
            if (ready or dropped) and not self.write(ready, dropped):
                with self._wake:
                    self._is_over = True
                    self._lines.clear()
                return
            if is_last and not lines:
                self.finish()
                return
            if ready:
                with self._wake:
                    self._wake.wait_for(lambda: self._closing or len(self._lines) >= MANY, PAUSE)

    def _await_lines(self) -> None:
        """Wait until a line arrives, or until a waiting line is old enough."""
        if (wait := self._held.wait) is not None:
            self._wake.wait_for(lambda: self._closing or len(self._lines) >= MANY, wait)
        elif not self._lines and not self._closing:
            self._is_idle = True
            self._wake.wait_for(lambda: self._lines or self._closing)
