"""All lines in one order: the latest are remembered, and each goes to whoever shows or keeps it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runner.supervisor.output.line import Line
from runner.supervisor.output.writer import Writer

#: What is remembered of each slot: lines, and their bytes.
MAX_LINES = 500
MAX_BYTES = 128 * 1024

Follower = Callable[[Sequence[Line]], None]


class Recent:
    """The latest lines of one slot, each with its place in the order of all."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, Line]] = deque()
        self._bytes = 0

    def extend(self, numbers: Iterator[int], lines: Sequence[Line]) -> None:
        """Add lines, and forget the oldest where there are too many."""
        self._lines.extend(zip(numbers, lines, strict=False))  # the numbers never end
        self._bytes += sum([len(line.text) for line in lines])
        while len(self._lines) > MAX_LINES or (self._bytes > MAX_BYTES and len(self._lines) > 1):
            self._bytes -= len(self._lines.popleft()[1].text)

    def last(self, count: int) -> list[tuple[int, Line]]:
        """The latest ``count``, oldest first."""
        return list(self._lines)[-count:] if count else []


class Journal:
    """Takes lines from any thread."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._recent: dict[str, Recent] = {}
        self._followers: list[Follower] = []

    def say(self, text: str, level: str = "info", slot: str = "runner") -> None:
        """One line of the supervisor's own; it may quote what a child said."""
        self._take(slot, [Line(time.time(), slot, text, level)])

    def child(self, slot: str, lines: Sequence[bytes]) -> None:
        """What a child printed."""
        now = time.time()
        self._take(slot, [Line(now, slot, line) for line in lines])

    def last(self, count: int, slots: Callable[[str], bool] = lambda _: True) -> list[Line]:
        """The latest ``count`` lines of the slots that are asked for, in their order."""
        with self._lock:
            found = [recent.last(count) for slot, recent in self._recent.items() if slots(slot)]
        return [line for _, line in heapq.merge(*found)][-count:] if count else []

    def follow(self, follower: Follower) -> None:
        """Hand on all lines from now on, on the thread that they come from."""
        with self._lock:
            self._followers = [*self._followers, follower]

    def unfollow(self, follower: Follower) -> None:
        """Hand on no more."""
        with self._lock:
            self._followers = [one for one in self._followers if one != follower]

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, at most ``timeout`` seconds long for each writer."""
        for writer in self._writers:
            writer.close(timeout)

    def _take(self, slot: str, lines: Sequence[Line]) -> None:
        with self._lock:
            if (recent := self._recent.get(slot)) is None:
                recent = self._recent[slot] = Recent()
            # Of a flood only what can be remembered at all is looked at.
            recent.extend(self._numbers, lines[-MAX_LINES:])
            for writer in self._writers:
                writer.put(lines)
            followers = self._followers
        for follower in followers:
            follower(lines)
