"""Lines of output: how they look, as text for people or JSON for machines, and their order."""

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

#: Seconds that a line waits for older lines: more than a line needs on a busy machine, and less than a person notices.
HOLD = 0.1
#: The levels of lines, the lowest first.
LEVELS = ("debug", "info", "warning", "error")
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # SGR colour codes (ECMA-48), easy on dark and light
#: A UUID as text (RFC 9562, section 4): its first eight digits are enough to tell orders apart.
_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class Line(NamedTuple):
    """What a child printed, or what the supervisor itself says."""

    #: Seconds since the epoch, as the process that wrote the line counts them.
    time: float
    slot: str
    text: str | bytes
    #: None for what a child printed, whose own words say it.
    level: str | None = None

    @property
    def shown(self) -> str:
        """The text with nothing in it that could pose as another line or move a terminal's cursor."""
        if isinstance(self.text, bytes):
            return escaped(self.text.decode("utf-8", "backslashreplace"))
        return escaped(self.text).replace("\n", "\\n")

    @property
    def marked(self) -> str:
        """What is shown, with its level before it where that is known and not info."""
        return self.shown if self.level in (None, "info") else f"{(self.level or '').upper()}: {self.shown}"


class TextForm:
    """``12:42:18 payment.1 | text``, in the service's colour on a terminal, where ids are short enough to be read."""

    def __init__(self, *, colour: bool, width: int, has_short_ids: bool = False) -> None:
        self._has_colour, self._width, self._has_short_ids = colour, width, has_short_ids
        self._colours = {"runner": 1}
        self._palette = itertools.cycle(_COLOURS)
        self._second, self._clock = -1, ""
        #: What stands before the text of each slot's lines within the second.
        self._prefixes: dict[str, str] = {}

    def __call__(self, line: Line) -> str:
        """One line as text."""
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
    """One line as a JSON object; what a worker wrote as one already stays as it is."""
    if line.level is None:
        raw = line.text if isinstance(line.text, str) else line.text.decode("utf-8", "backslashreplace")
        if raw.startswith("{") and _is_record_of(line.slot, raw):
            return escaped_json(raw)
        return _object(line, raw)
    return _object(line, line.shown)


def _object(line: Line, text: str) -> str:
    return json_record(line.time, line.level or "info", line.slot, text)


def _is_record_of(slot: str, text: str) -> bool:
    # What a plugin prints itself may be JSON too; it must not pose as a record of another service.
    try:
        record = json.loads(text)
        return isinstance(record, dict) and record.get("slot") == slot
    except (ValueError, RecursionError):
        return False


class InOrder:
    """A buffer that keeps lines until they are ``hold`` seconds old, and returns them in the order of their times.

    Each process writes its lines at once, but the supervisor reads one process after the other. So it may read a line
    before an older line of another process. Each line therefore waits a moment for older lines.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._lines: list[Line] = []

    def add(self, lines: Sequence[Line]) -> None:
        """Add lines; those of one process stay in their order if their times are equal."""
        self._lines += lines
        if self._hold:
            self._lines.sort(key=_time)

    def take(self, *, everything: bool = False) -> list[Line]:
        """Remove and return the lines that are old enough, or all of them."""
        now = time.time()
        # A time in the future means that the clock was set back, so waiting for it is useless.
        is_usual = bool(self._lines) and self._lines[-1].time <= now + self._hold
        end = bisect_right(self._lines, now - self._hold, key=_time) if self._hold and is_usual else len(self._lines)
        ready = self._lines if everything else self._lines[:end]
        self._lines = [] if everything else self._lines[end:]
        return ready

    @property
    def wait(self) -> float | None:
        """Return the seconds until the next line is old enough, or None if there is no line."""
        if not self._lines:
            return None
        return min(max(0.0, self._lines[0].time + self._hold - time.time()), self._hold)


def _time(line: Line) -> float:
    return line.time
