"""The log lines of all processes on one terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from runner.supervisor.output.line import HOLD, Line, TextForm, json_form
from runner.supervisor.output.line_writer import LineWriter


class Console(LineWriter):
    """A writer that prints complete log lines to a stream, each with its time and slot."""

    def __init__(
        self,
        stream: TextIO | None = None,
        log_format: str = "text",
        *,
        colour: bool = False,
        width: int = 8,
        has_short_ids: bool = False,
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        if isinstance(self._stream, io.TextIOWrapper):
            # A line with a character that the terminal cannot encode must not be lost.
            self._stream.reconfigure(errors="backslashreplace")
        text = TextForm(colour=colour, width=width, has_short_ids=has_short_ids)
        self._form: Callable[[Line], str] = json_form if log_format == "json" else text
        super().__init__("console", HOLD)

    def write(self, lines: Sequence[Line], dropped: int) -> bool:
        """Write a batch of lines.

        Return False if the stream can no longer be written. The services keep running even if no process reads the
        stream.
        """
        if dropped:
            note = f"{dropped} lines dropped, because the reader of this output is too slow"
            lines = [Line(time.time(), "runner", note, "warning"), *lines]
        try:
            self._stream.write("\n".join(map(self._form, lines)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        # Python flushes the buffer at exit. An error during the flush would change the exit code to 120 (Python:
        # "signal", Note on SIGPIPE).
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), self._stream.fileno())
