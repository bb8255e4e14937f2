"""A program on a pseudo-terminal, as a person uses it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.machine import in_time
from tests.rabbit import wait_until
from tests.running import ROOT


def press_ctrl_c(process: subprocess.Popen[Any]) -> None:
    """Interrupt a program that asks a question, and wait until it has exited.

    Python handles a signal that arrives as it starts to read only after the read. Then, a user presses Ctrl-C again.
    """
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A second signal during the exit would end the process before it sets its exit code.
            process.wait(in_time(2))
            return


class Terminal:
    """A program, the text that it has printed, and lines to type."""

    def __init__(self, command: Sequence[str], folder: Path, columns: int = 100, **environment: str) -> None:
        self._file, theirs = pty.openpty()
        #: The printed text, with the typed lines.
        self.output = ""
        self._seen = 0
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), **environment},
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(self._file, False)

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the program has printed a text after the text of the previous call."""

        def is_printed() -> bool:
            try:
                while data := os.read(self._file, 65536):
                    self.output += data.decode().replace("\r\n", "\n")
            except OSError:  # nothing to read, or the program has exited
                pass
            return text in self.output[self._seen :]

        try:
            wait_until(is_printed, in_time(seconds), repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- printed:\n{self.output}") from None
        self._seen = self.output.index(text, self._seen) + len(text)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._file, f"{text}\n".encode())

    def close(self) -> None:
        """Kill the program if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._file)
