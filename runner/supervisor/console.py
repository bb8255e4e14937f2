"""Children's output and the supervisor's own words on one terminal, without ever making anyone wait."""

from __future__ import annotations

import io
import itertools
import json
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TextIO

from runner.logs import escaped, json_line

#: Lines that may wait for a slow or paused terminal; beyond that the oldest are dropped, and counted.
MAX_WAITING = 10_000

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # SGR colour codes (ECMA-48), easy on dark and light


class Console:
    """Writes whole lines, each prefixed with its time and slot, on a thread of its own."""

    def __init__(self, stream: TextIO | None = None, log_format: str = "text", *, colour: bool = False, width: int = 8):
        self._stream = sys.stdout if stream is None else stream
        if isinstance(self._stream, io.TextIOWrapper):
            # A terminal that lacks a character must not cost the line.
            self._stream.reconfigure(errors="backslashreplace")
        self._is_json = log_format == "json"
        self._has_colour = colour
        self._width = width
        self._colours: dict[str, int] = {}
        self._palette = itertools.cycle(_COLOURS)
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def say(self, text: str, level: str = "info", slot: str = "runner") -> None:
        """One line of the supervisor's own; it may quote what a child said."""
        text = escaped(text).replace("\n", "\\n")
        if self._is_json:
            self._put(_json_line(slot, text, level))
        else:
            mark = "" if level == "info" else f"{level.upper()}: "
            self._put(self._prefixed(slot, mark + text))

    def child(self, slot: str, line: bytes) -> None:
        """One line that a child printed."""
        text = line.decode("utf-8", "backslashreplace")
        if not self._is_json:
            self._put(self._prefixed(slot, escaped(text)))
        elif text.startswith("{") and _is_record_of(slot, text):
            self._put(escaped(text))
        else:
            self._put(_json_line(slot, text, "info"))

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, at most ``timeout`` seconds long."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    def _prefixed(self, slot: str, text: str) -> str:
        clock = time.strftime("%H:%M:%S")
        name = f"{slot:<{self._width}}"
        if not self._has_colour:
            return f"{clock} {name} | {text}"
        service = slot.partition(".")[0]
        if service not in self._colours:
            self._colours[service] = 1 if service == "runner" else next(self._palette)
        paint = f"\x1b[{self._colours[service]}m"
        if text.startswith(("WARNING:", "ERROR:", "CRITICAL:")):
            text = f"\x1b[{33 if text.startswith('W') else 31}m{text}\x1b[0m"
        return f"\x1b[2m{clock}\x1b[0m {paint}{name} |\x1b[0m {text}"

    def _put(self, line: str) -> None:
        with self._wake:
            if len(self._lines) >= MAX_WAITING:
                self._lines.popleft()
                self._dropped += 1
            self._lines.append(line)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._lines or self._closing)
                lines, dropped = list(self._lines), self._dropped
                self._lines.clear()
                self._dropped = 0
                if not lines and self._closing:
                    return
            if dropped:
                text = f"{dropped} lines dropped: this output is read too slowly"
                is_json = self._is_json
                note = (
                    _json_line("runner", text, "warning") if is_json else self._prefixed("runner", f"WARNING: {text}")
                )
                lines.insert(0, note)
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads any more; the services go on


def _is_record_of(slot: str, text: str) -> bool:
    # What a plugin prints itself may be JSON too; it must not pose as a record of another service.
    try:
        record = json.loads(text)
        return isinstance(record, dict) and record.get("slot") == slot
    except (ValueError, RecursionError):
        return False


def _json_line(slot: str, text: str, level: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    service = slot.partition(".")[0]
    return json_line({"time": now, "level": level, "service": service, "slot": slot, "message": text})
