"""The side that asks: starts the process that imports the plugins, and reads what it found."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import PluginError

#: Stands in a text for the value, which may come from a secret variable: only the document knows how to show it.
VALUE = "\x00"
#: Seconds that importing all plugins may take.
TIMEOUT = 30


class Inspector:
    """One process for one question; it gets ready from the construction on, and ends without a question too."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runner.inspection"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(
        self, folder: Path, services: dict[str, Any], meanwhile: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """The faults of each service, as paths with texts; ``meanwhile`` is called until it answers.

        Raises PluginError where a plugin keeps it from answering.
        """
        with self._process as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
            with contextlib.suppress(BrokenPipeError):  # it has ended, and says below why
                process.stdin.write(json.dumps([str(folder), services]).encode() + b"\n")
                process.stdin.flush()
            meanwhile()
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired as late:
                process.kill()
                raise PluginError(
                    f"plugin {_last_line(late.stdout)!r}: importing it took over {TIMEOUT} s; move slow work from the"
                    " module into the hook 'start'"
                ) from None
        last = _last_line(out)
        try:
            answer: dict[str, Any] = json.loads(last)
        except ValueError:
            # The last line is then the name of the plugin that was being imported.
            lines = err.decode("utf-8", "replace").strip().splitlines()
            reason = f"exit {process.returncode}" + (f", {lines[-1]}" if lines else "")
            raise PluginError(f"plugin {last!r}: importing it ended the process, {reason}; mend or remove it") from None
        return answer


def _last_line(output: bytes | None) -> str:
    *_, last = [b"", *(output or b"").splitlines()]
    return last.decode("utf-8", "replace")
