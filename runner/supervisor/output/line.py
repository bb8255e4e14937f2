"""Log lines, their text and JSON formats, and their order by time."""

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

#: Seconds for which a line waits for older lines. The delay is long enough on a busy machine, but too short for users
#: to notice.
HOLD = 0.1
#: The log levels, lowest first.
LEVELS = ("debug", "info", "warning", "error")
#: SGR codes (ECMA-48) of colours that are readable on dark and light backgrounds.
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
#: A UUID as text (RFC 9562, section 4). The first eight digits are enough to distinguish orders.
_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class Line(NamedTuple):
    """A log line of a child process or of the supervisor."""

    #: The time at which the line was written, in seconds since the epoch.
    time: float
    slot: str
    text: str | bytes
    #: The log level, or None for a line from a child process, because such a line already contains its level.
    level: str | None = None

    @property
    def shown(self) -> str:
        """The escaped text, which can neither imitate another line nor control the terminal."""
        if isinstance(self.text, bytes):
            return escaped(self.text.decode("utf-8", "backslashreplace"))
        return escaped(self.text).replace("\n", "\\n")

    @property
    def marked(self) -> str:
        """The escaped text, preceded by its level unless the level is unknown or info."""
        return self.shown if self.level in (None, "info") else f"{(self.level or '').upper()}: {self.shown}"


class TextForm:
    """The text format ``12:42:18 payment.1 | text``, with optional colours and shortened ids."""

    def __init__(self, *, colour: bool, width: int, has_short_ids: bool = False) -> None:
        self._has_colour, self._width, self._has_short_ids = colour, width, has_short_ids
        self._colours = {"runner": 1}
        self._palette = itertools.cycle(_COLOURS)
        self._second, self._clock = -1, ""
        #: The line prefix of each slot, valid for the current second.
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
    """Return a line as a JSON object.

    A JSON record from a worker is escaped, but otherwise unchanged.
    """
    if line.level is None:
        raw = line.text if isinstance(line.text, str) else line.text.decode("utf-8", "backslashreplace")
        if raw.startswith("{") and _is_record_of(line.slot, raw):
            return escaped_json(raw)
        return _object(line, raw)
    return _object(line, line.shown)


def _object(line: Line, text: str) -> str:
    return json_record(line.time, line.level or "info", line.slot, text)


def _is_record_of(slot: str, text: str) -> bool:
    # Plugin code can print JSON, which must not pass for a record of another service.
    try:
        record = json.loads(text)
        return isinstance(record, dict) and record.get("slot") == slot
    except (ValueError, RecursionError):
        return False


class InOrder:
    """A buffer that keeps each line until the line is ``hold`` seconds old, and returns lines sorted by time.

    Processes write their lines immediately, but the supervisor reads from one process after another. So the supervisor
    may read a line before an older line from another process. Therefore each line waits briefly for older lines.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._lines: list[Line] = []

    def add(self, lines: Sequence[Line]) -> None:
        """Add lines. Lines with equal times keep their order."""
        self._lines += lines
        if self._hold:
            self._lines.sort(key=_time)

    def take(self, *, everything: bool = False) -> list[Line]:
        """Remove and return the lines that are old enough, or all lines if ``everything`` is true."""
        now = time.time()
        # If a line's time is in the future, the clock was set back, and waiting is useless.
        is_usual = bool(self._lines) and self._lines[-1].time <= now + self._hold
        end = bisect_right(self._lines, now - self._hold, key=_time) if self._hold and is_usual else len(self._lines)
        ready = self._lines if everything else self._lines[:end]
        self._lines = [] if everything else self._lines[end:]
        return ready

    @property
    def wait(self) -> float | None:
        """The number of seconds until the oldest line is old enough, or None if the buffer is empty."""
        if not self._lines:
            return None
        return min(max(0.0, self._lines[0].time + self._hold - time.time()), self._hold)


def _time(line: Line) -> float:
    return line.time
