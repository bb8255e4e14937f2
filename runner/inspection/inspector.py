"""The parent's part of inspection, which starts the process that imports plugins, and reads its answer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import PluginError

#: A placeholder for a value in an error text. The value may be a secret, and only the document knows how to show it.
VALUE = "\x00"
#: Seconds within which all plugins must be imported.
TIMEOUT = 30


class Inspector:
    """One process for one request. Creating the object starts the process. It exits if the parent sends no request."""

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
        """Return the errors, option names and terms of each service. ``meanwhile`` is called before the answer is read.

        Raises PluginError if a plugin prevents the answer.
        """
        with self._process as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
            with contextlib.suppress(BrokenPipeError):  # the process has exited, and the error below has the reason
                process.stdin.write(json.dumps([str(folder), services]).encode() + b"\n")
                process.stdin.flush()
            meanwhile()
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired as late:
                process.kill()
                raise PluginError(
                    f"plugin {_last_line(late.stdout)!r}: importing it took over {TIMEOUT} s; move slow code from"
                    " the module into the hook 'start'"
                ) from None
        last = _last_line(out)
        try:
            answer: dict[str, Any] = json.loads(last)
        except ValueError:
            # The last line contains the name of the plugin whose import made the process exit.
            lines = err.decode("utf-8", "replace").strip().splitlines()
            reason = f"exit {process.returncode}" + (f", {lines[-1]}" if lines else "")
            raise PluginError(f"plugin {last!r}: importing it ended the process, {reason}; fix or remove it") from None
        return answer


def _last_line(output: bytes | None) -> str:
    *_, last = [b"", *(output or b"").splitlines()]
    return last.decode("utf-8", "replace")
