"""The log of a running system, which is read while the system is writing it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from runner.learn.observation import LogLine


class SystemLog:
    """The JSON lines of a supervisor."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._rest = b""
        self.lines: list[LogLine] = []
        #: The lines that are not JSON, such as configuration errors at the start.
        self.plain: list[str] = []

    def read(self) -> list[LogLine]:
        """Return all lines so far."""
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *complete, self._rest = (self._rest + data).split(b"\n")
        for raw in complete:
            self._add(raw.decode("utf-8", "replace"))
        return self.lines

    def _add(self, text: str) -> None:
        try:
            found = json.loads(text)
            line = LogLine(
                datetime.fromisoformat(found["time"]).timestamp(),
                found["service"], found["slot"], found["message"], found.get("order"), found.get("event"),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            self.plain.append(text)
        else:
            self.lines.append(line)
