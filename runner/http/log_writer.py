"""Log records written by a thread of their own.

A thread that writes to standard error waits while nothing reads it, as when the supervisor is stopped (SIGSTOP).
The loop must not: all connections wait for it, and the probes with them.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

_own_log = logging.getLogger(__name__)

#: This many records may wait; more come only from requests that are unanswered by then.
MAX_WAITING = 1000


class LogWriter:
    """Hands records to ``log`` in their order. A line may come a little after the answer that it is about."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._new: list[logging.LogRecord] = []
        self._batches: SimpleQueue[list[logging.LogRecord] | None] = SimpleQueue()
        # Each is counted by one thread alone.
        self._given = self._written = 0
        self._thread = threading.Thread(target=self._write, name="http log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, record: logging.LogRecord) -> None:
        """Have it written after the next ``flush``."""
        self._new.append(record)
        self._given += 1

    def flush(self) -> None:
        """Wake the thread for what was added: once for all of that."""
        if self._new:
            self._batches.put(self._new)
            self._new = []

    def is_full(self) -> bool:
        """Return True if no more should be added for now."""
        return self._given - self._written >= MAX_WAITING

    def stop(self, timeout: float) -> None:
        """Write what waits, for at most so many seconds; the thread goes on after that as long as the process does."""
        self.flush()
        self._batches.put(None)
        self._thread.join(timeout)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            for record in batch:
                try:
                    self._log.handle(record)
                except Exception:  # noqa: BLE001 - the lines behind it are to be written all the same
                    _own_log.exception("a line could not be written: %r", record.msg)
                self._written += 1
