"""The threads that work while they are needed, for example while a page is open."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping

#: Seconds after which failed work is repeated, and seconds that ``close`` waits for each thread.
RETRY, PATIENCE = 1.0, 2.0


class LiveThreads:
    """Named threads, each of which repeats its work until it is no longer needed. Any thread may call the methods."""

    def __init__(self, is_needed: Callable[[], bool], works: Mapping[str, Callable[[], None]]) -> None:
        self._is_needed, self._works = is_needed, works
        self._lock = threading.Condition()
        self._running: dict[str, threading.Thread] = {}
        self.is_closed = False

    def start(self) -> None:
        """Start the threads that are needed and are not running."""
        with self._lock:
            if self.is_closed or not self._is_needed():
                return
            for name, work in self._works.items():
                if name not in self._running:
                    self._running[name] = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
                    self._running[name].start()

    def pause(self, seconds: float = RETRY) -> None:
        """Wait in one of the threads."""
        with self._lock:
            self._lock.wait_for(lambda: self.is_closed, seconds)

    def close(self) -> None:
        """Stop all threads."""
        with self._lock:
            self.is_closed = True
            self._lock.notify_all()
            running = list(self._running.values())
        for thread in running:
            thread.join(PATIENCE)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        while self._continues(name):
            try:
                work()
            except Exception:  # noqa: BLE001 - a bug must not leave the pages with old figures for ever
                traceback.print_exc()
                self.pause()

    def _continues(self, name: str) -> bool:
        """Return True if a thread must continue. Otherwise, the next ``start`` starts another thread."""
        with self._lock:
            if not self.is_closed and self._is_needed():
                return True
            del self._running[name]
            return False
