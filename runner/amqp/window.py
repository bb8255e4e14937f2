"""How many events may be on their way without a confirm."""

from __future__ import annotations

import threading
from collections import deque


class Window:
    """A number of places, which threads take and give back; a ``threading.Semaphore`` that costs little when free."""

    def __init__(self, places: int) -> None:
        # One append or pop of a deque is atomic, so that nobody needs a lock unless somebody waits.
        self._free = deque([None] * places)
        self._given = threading.Condition()
        self._waiting = 0

    def acquire(self, timeout: float) -> bool:
        """Take a place, waiting at most ``timeout`` seconds for one; False where none became free."""
        if self._take():
            return True
        with self._given:
            self._waiting += 1
            try:
                # Looked at again only now, since who gives a place back looks whether somebody waits after that.
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
        """Give a place back."""
        self._free.append(None)
        if self._waiting:
            with self._given:
                self._given.notify()
