"""Log lines: their text and JSON formats, and their order."""

from __future__ import annotations

import itertools
import json
import re
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from runner.escape import escaped, escaped_json
from runner.logs import json_record

#: Seconds for which a line waits for older lines. This is enough on a busy machine, and users do not notice the delay.
HOLD = 0.1
#: The levels of lines, lowest first.
LEVELS = ("debug", "info", "warning", "error")
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # SGR codes (ECMA-48) that are readable on dark and light
#: A UUID as text (RFC 9562, section 4). Its first eight digits are enough to distinguish orders.
_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class Line(NamedTuple):
    """A log line of a child process or of the supervisor."""

    #: The time at which the process wrote the line, in seconds since the epoch.
    time: float
    slot: str
    text: str | bytes
    #: The level. None for a line from a child process, whose text contains the level.
    level: str | None = None

    @property
    def shown(self) -> str:
        """The escaped text, which cannot imitate another line or move the cursor of a terminal."""
        if isinstance(self.text, bytes):
            return escaped(self.text.decode("utf-8", "backslashreplace"))
        return escaped(self.text).replace("\n", "\\n")

    @property
    def marked(self) -> str:
        """The escaped text after its level, unless the level is unknown or info."""
        return self.shown if self.level in (None, "info") else f"{(self.level or '').upper()}: {self.shown}"


class TextForm:
    """The text format ``12:42:18 payment.1 | text``. On a terminal, it uses colours and shortens ids."""

    def __init__(self, *, colour: bool, width: int, has_short_ids: bool = False) -> None:
        self._has_colour, self._width, self._has_short_ids = colour, width, has_short_ids
        self._colours = {"runner": 1}
        self._palette = itertools.cycle(_COLOURS)
        self._second, self._clock = -1, ""
        #: The prefix of each slot's lines within the current second.
        self._prefixes: dict[str, str] = {}

    def __call__(self, line: Line) -> str:
        """Return a line as text."""
        if int(line.time) != self._second:
            self._second = int(line.time)
            self._clock = time.strftime("%H:%M:%S", time.localtime(self._second))
            self._prefixes.clear()
        prefix = self._prefixes.get(line.slot) or self._prefix(line.slot)
        text = _UUID.sub(r"\1…", line.marked) if self._has_short_ids else line.marked
        if self._has_colour and text.startswith(("WARNING:", "ERROR:", "CRITICAL:")):
            text = f"\x1b[{33 if text.startswith('W') else 31}m{text}\x1b[0m"
        return prefix + text

    def _prefix(self, slot: str) -> str:
        prefix = f"{self._clock} {slot:<{self._width}} | "
        if self._has_colour:
            service = slot.partition(".")[0]
            if service not in self._colours:
                self._colours[service] = next(self._palette)
            prefix = f"\x1b[2m{self._clock}\x1b[0m \x1b[{self._colours[service]}m{slot:<{self._width}} |\x1b[0m "
        self._prefixes[slot] = prefix
        return prefix


def json_form(line: Line) -> str:
    """Return a line as a JSON object. A JSON record from a worker is returned unchanged."""
    if line.level is None:
        raw = line.text if isinstance(line.text, str) else line.text.decode("utf-8", "backslashreplace")
        if raw.startswith("{") and _is_record_of(line.slot, raw):
            return escaped_json(raw)
        return _object(line, raw)
    return _object(line, line.shown)


def _object(line: Line, text: str) -> str:
    return json_record(line.time, line.level or "info", line.slot, text)


def _is_record_of(slot: str, text: str) -> bool:
    # A plugin may print JSON itself, which must not imitate a record of another service.
    try:
        record = json.loads(text)
        return isinstance(record, dict) and record.get("slot") == slot
    except (ValueError, RecursionError):
        return False


class InOrder:
    """A buffer that keeps lines until they are ``hold`` seconds old, and returns them sorted by time.

    Each process writes its lines at once, but the supervisor reads one process after the other. The supervisor may read
    a line before an older line from another process. Therefore each line waits a moment for older lines.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._lines: list[Line] = []

    def add(self, lines: Sequence[Line]) -> None:
        """Add lines. Lines with equal times keep the order in which they were added."""
        self._lines += lines
        if self._hold:
            self._lines.sort(key=_time)

    def take(self, *, everything: bool = False) -> list[Line]:
        """Remove and return the lines that are old enough, or all lines."""
        now = time.time()
        # A time in the future means that the clock was set back, so waiting is useless.
        is_usual = bool(self._lines) and self._lines[-1].time <= now + self._hold
        end = bisect_right(self._lines, now - self._hold, key=_time) if self._hold and is_usual else len(self._lines)
        ready = self._lines if everything else self._lines[:end]
        self._lines = [] if everything else self._lines[end:]
        return ready

    @property
    def wait(self) -> float | None:
        """The seconds until the next line is old enough, or None if there is no line."""
        if not self._lines:
            return None
        return min(max(0.0, self._lines[0].time + self._hold - time.time()), self._hold)


def _time(line: Line) -> float:
    return line.time
