"""The latest log lines of a slot, as the page shows them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.dashboard.page_text import cut_line
from runner.errors import RunnerError
from runner.supervisor.control.client import ask
from runner.supervisor.output.line import Line

#: The number of lines.
LINES = 200
#: Seconds for which all pages share the lines of a slot, and the number of slots whose lines are kept.
SHARED, KEPT = 0.9, 16
#: Seconds within which the supervisor must answer.
PATIENCE = 5.0
_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL): ")
_TRACEBACK = "Traceback (most recent call last):"
#: The levels of a line as the page marks them.
_MARKED = {"warning": "warn", "error": "bad", "critical": "bad"}


class SlotLogs:
    """The latest lines of the slots whose logs are open in a page. Any thread may call the methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def of(self, target: str) -> dict[str, Any]:
        """Return the lines of a service or slot, of the supervisor (``runner``), or of all if ``target`` is empty.

        Each line consists of the time in seconds since the epoch, the slot, ``warn``, ``bad`` or an empty text, and the
        line's text. If the lines cannot be read, ``problem`` contains the reason.
        """
        with self._lock:
            if target in self._kept and time.monotonic() - self._kept[target][0] < SHARED:
                return self._kept[target][1]
        found: dict[str, Any] = {"lines": [], "problem": ""}
        try:
            answers = list(ask(self._folder, "logs", patience=PATIENCE, target=target or None, lines=LINES))
            found["lines"] = rows_of([Line(**one["line"]) for one in answers if "line" in one])
        except RunnerError as error:
            found["problem"] = str(error)
        with self._lock:
            self._kept[target] = (time.monotonic(), found)
            self._kept.move_to_end(target)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


def rows_of(lines: Iterable[Line]) -> list[list[Any]]:
    """Return each line as its time, its slot, its mark, and its text. All lines of a traceback are marked."""
    rows: list[list[Any]] = []
    open_tracebacks: set[str] = set()
    for line in lines:
        level, text = _level_and_text(line)
        mark = _MARKED.get(level, "")
        if text.startswith(_TRACEBACK):
            open_tracebacks.add(line.slot)
        if line.slot in open_tracebacks:
            mark = "bad"
            # The exception follows the indented lines of its traceback.
            if not text.startswith((_TRACEBACK, " ")):
                open_tracebacks.discard(line.slot)
        rows.append([round(line.time, 3), line.slot, mark, cut_line(text)])
    return rows


def _level_and_text(line: Line) -> tuple[str, str]:
    text = line.shown
    if line.level is not None:
        return line.level, line.marked
    if text.startswith("{"):
        # With ``format: json``, each line of a worker is an object.
        try:
            record = json.loads(text)
            return str(record["level"]).lower(), str(record["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return "", text
    found = _LEVEL.match(text)
    return (found[1].lower() if found else ""), text
