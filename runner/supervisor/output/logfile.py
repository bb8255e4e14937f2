"""A file for each slot's lines, with rotation."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from runner.logs import timestamp
from runner.supervisor.output.line import Line, json_form
from runner.supervisor.output.writer import Writer


class LogFiles(Writer):
    """Writes ``payment.1.log``; over ``max_size`` bytes it becomes ``payment.1.log.1``, of which ``keep`` are kept."""

    def __init__(self, folder: Path, max_size: int, keep: int, log_format: str = "text") -> None:
        self._folder, self._max_size, self._keep = folder, max_size, keep
        self._is_json = log_format == "json"
        self._files: dict[str, IO[bytes]] = {}
        #: Lines that could not be written, for want of room on the disk or of rights; said in the file once it works.
        self._lost = 0
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("log files")

    def write(self, lines: Sequence[Line], dropped: int) -> bool:
        """Write a batch; what fails is counted and the next batch tried again."""
        self._lost += dropped
        by_slot: dict[str, list[bytes]] = defaultdict(list)
        for line in lines:
            by_slot[line.slot].append(self._form(line))
        for slot, texts in by_slot.items():
            try:
                self._append(slot, texts)
            except OSError:
                self._lost += len(texts)
                if (file := self._files.pop(slot, None)) is not None:
                    with contextlib.suppress(OSError):
                        file.close()
        return True

    def finish(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _append(self, slot: str, texts: list[bytes]) -> None:
        if self._lost:
            note = Line(time.time(), "runner", f"{self._lost} lines were lost before this", "warning")
            texts = [self._form(note), *texts]
        file = self._files.get(slot) or self._open(slot)
        for text in texts:
            if file.tell() and file.tell() + len(text) > self._max_size:
                file = self._rotate(slot)
            file.write(text)
        file.flush()
        self._lost = 0

    def _form(self, line: Line) -> bytes:
        text = json_form(line) if self._is_json else f"{timestamp(line.time)} {line.marked}"
        return text.encode("utf-8", "backslashreplace") + b"\n"

    def _open(self, slot: str) -> IO[bytes]:
        file = (self._folder / f"{slot}.log").open("ab")
        self._files[slot] = file
        return file

    def _rotate(self, slot: str) -> IO[bytes]:
        self._files.pop(slot).close()
        path = self._folder / f"{slot}.log"
        older = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, self._keep + 1))]
        for newer, old in reversed(list(itertools.pairwise(older))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(old)
        if self._keep == 0:
            path.unlink()
        return self._open(slot)
