"""The journal of all log lines, which keeps the latest lines and passes each line to writers and followers."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from runner.logs import time_of
from runner.supervisor.output.line import LEVELS, Line
from runner.supervisor.output.line_writer import LineWriter

#: The maximum number of lines to keep for each slot, and their maximum total size in bytes.
MAX_LINES = 500
MAX_BYTES = 128 * 1024

Follower = Callable[[Sequence[Line]], None]


class Recent:
    """The latest lines of one slot. Line numbers are unique across all slots."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, Line]] = deque()
        self._bytes = 0

    def extend(self, numbers: Iterator[int], lines: Sequence[Line]) -> None:
        """Add lines, and drop the oldest lines above the limits."""
        self._lines.extend(zip(numbers, lines, strict=False))  # the iterator of numbers is infinite
        self._bytes += sum([len(line.text) for line in lines])
        while len(self._lines) > MAX_LINES or (self._bytes > MAX_BYTES and len(self._lines) > 1):
            self._bytes -= len(self._lines.popleft()[1].text)

    @property
    def lines(self) -> Sequence[tuple[int, Line]]:
        """The latest lines of the slot, oldest first."""
        return self._lines


class Journal:
    """The journal of all log lines, which accepts lines from any thread."""

    def __init__(self, *writers: LineWriter, level: str = "info") -> None:
        """``level`` is the lowest level of the supervisor's own lines. Child processes filter their own lines."""
        self._writers = writers
        self._lowest = LEVELS.index(level)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._recent: dict[str, Recent] = {}
        self._followers: list[Follower] = []

    def say(self, text: str, level: str = "info", slot: str = "runner") -> None:
        """Add a line from the supervisor. The line may quote text from a child process."""
        if LEVELS.index(level) >= self._lowest:
            self._take(slot, [Line(time.time(), slot, text, level)])

    def child(self, slot: str, lines: Sequence[bytes]) -> None:
        """Add the lines that a child process printed."""
        now, made = time.time(), list[Line]()
        # A line that plugin code prints directly contains no time, so it gets the time of the next log record.
        for line in reversed(lines):
            found = time_of(line)
            now, text = (now, line) if found is None else found
            made.append(Line(now, slot, text))
        self._take(slot, made[::-1])

    def last(self, count: int, is_wanted: Callable[[Line], bool] = lambda _: True) -> list[Line]:
        """Return the latest ``count`` lines that ``is_wanted`` accepts, sorted by time."""
        with self._lock:
            found = [one for recent in self._recent.values() for one in recent.lines if is_wanted(one[1])]
        found.sort(key=lambda one: (one[1].time, one[0]))
        return [line for _, line in found[-count:]] if count else []

    def follow(self, follower: Follower) -> None:
        """Pass all new lines to ``follower``, on the thread that adds the lines."""
        with self._lock:
            self._followers = [*self._followers, follower]

    def unfollow(self, follower: Follower) -> None:
        """Stop passing lines to ``follower``."""
        with self._lock:
            self._followers = [one for one in self._followers if one != follower]

    def close(self, timeout: float = 1.0) -> None:
        """Wait at most ``timeout`` seconds for each writer to write its remaining lines."""
        for writer in self._writers:
            writer.close(timeout)

    def _take(self, slot: str, lines: Sequence[Line]) -> None:
        with self._lock:
            if (recent := self._recent.get(slot)) is None:
                recent = self._recent[slot] = Recent()
            # Lines of a large batch that would be dropped immediately are not added.
            recent.extend(self._numbers, lines[-MAX_LINES:])
            for writer in self._writers:
                writer.put(lines)
            followers = self._followers
        for follower in followers:
            follower(lines)
