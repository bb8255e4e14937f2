"""A thread that writes log records.

Writing to standard error blocks while no process reads the output, for example while the supervisor is stopped
(SIGSTOP). The event loop must not block, because all connections and probes would have to wait.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue

_own_log = logging.getLogger(__name__)

#: The number of waiting records at which direct routes are no longer called. Unanswered requests may still add
#: records.
MAX_WAITING = 1000


class LogWriter:
    """A writer that passes records to ``log`` in order, possibly shortly after the responses are sent."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._new: list[logging.LogRecord] = []
        self._batches: SimpleQueue[list[logging.LogRecord] | None] = SimpleQueue()
        # Each counter is changed by only one thread.
        self._given = self._written = 0
        self._thread = threading.Thread(target=self._write, name="http log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, record: logging.LogRecord) -> None:
        """Add a record, which is written after the next ``flush``."""
        self._new.append(record)
        self._given += 1

    def flush(self) -> None:
        """Wake the thread once for all added records."""
        if self._new:
            self._batches.put(self._new)
            self._new = []

    def is_full(self) -> bool:
        """Return True if too many records are waiting."""
        return self._given - self._written >= MAX_WAITING

    def stop(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until all records are written. The thread may run until the process exits."""
        self.flush()
        self._batches.put(None)
        self._thread.join(timeout)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            for record in batch:
                try:
                    self._log.handle(record)
                except Exception:  # noqa: BLE001 - the later lines must still be written
                    _own_log.exception("a log line could not be written: %r", record.msg)
                self._written += 1
