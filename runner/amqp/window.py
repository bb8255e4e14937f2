"""How many events may be on their way without a confirm: a number of places."""

from __future__ import annotations

import threading
from collections import deque


class Window:
    """Places that threads take, and one gives back: as ``threading.Semaphore``, but cheap while there are free ones."""

    def __init__(self, places: int, given: threading.Condition | None = None) -> None:
        self.places = places
        # An append or a pop is atomic, so that nobody needs a lock unless somebody waits.
        self._free = deque([None] * places)
        self._given = threading.Condition() if given is None else given
        self._waiting = 0

    def acquire(self, timeout: float) -> bool:
        """Take a place, waiting at most ``timeout`` seconds for one; False where none became free."""
        if self._take():
            return True
        with self._given:
            self._waiting += 1
            try:
                # Looks once more before it waits: ``wake`` looks whether somebody waits after a place was given back.
                return self._given.wait_for(self._take, timeout)
            finally:
                self._waiting -= 1

    def _take(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Give a place back; nobody who waits is told before ``wake``."""
        self._free.append(None)

    def wake(self) -> None:
        """Let those go on who wait, once for many places: woken for each of them, a thread would send one by one."""
        if self._waiting and self._free:
            with self._given:
                self._given.notify_all()
