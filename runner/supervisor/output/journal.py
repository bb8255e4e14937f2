"""All lines in one order: the latest are remembered, and each goes to whoever shows or keeps it."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runner.logs import time_of
from runner.supervisor.output.line import LEVELS, Line
from runner.supervisor.output.line_writer import LineWriter

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

    @property
    def lines(self) -> Sequence[tuple[int, Line]]:
        """All that are remembered, the oldest first."""
        return self._lines


class Journal:
    """Takes lines from any thread."""

    def __init__(self, *writers: LineWriter, level: str = "info") -> None:
        """``level`` is the lowest of the supervisor's own lines that is shown; children decide about theirs."""
        self._writers = writers
        self._lowest = LEVELS.index(level)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._recent: dict[str, Recent] = {}
        self._followers: list[Follower] = []

    def say(self, text: str, level: str = "info", slot: str = "runner") -> None:
        """One line of the supervisor's own; it may quote what a child said."""
        if LEVELS.index(level) >= self._lowest:
            self._take(slot, [Line(time.time(), slot, text, level)])

    def child(self, slot: str, lines: Sequence[bytes]) -> None:
        """What a child printed."""
        now, made = time.time(), list[Line]()
        # What a plugin prints itself has no time; it was printed before the record that follows it.
        for line in reversed(lines):
            found = time_of(line)
            now, text = (now, line) if found is None else found
            made.append(Line(now, slot, text))
        self._take(slot, made[::-1])

    def last(self, count: int, is_wanted: Callable[[Line], bool] = lambda _: True) -> list[Line]:
        """The latest ``count`` lines that are wanted, by their time."""
        with self._lock:
            found = [one for recent in self._recent.values() for one in recent.lines if is_wanted(one[1])]
        found.sort(key=lambda one: (one[1].time, one[0]))
        return [line for _, line in found[-count:]] if count else []

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
