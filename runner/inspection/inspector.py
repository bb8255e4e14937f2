"""The parent's side of inspection, which starts the inspection process and reads its response."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import PluginError

#: The placeholder for a value in an error text. The value may be a secret, so only the document inserts it.
VALUE = "\x00"
#: The time limit for importing all plugins, in seconds.
TIMEOUT = 30


class Inspector:
    """An inspection process for a single request.

    Creating the object starts the process. If the parent exits without sending a request, the inspection process exits
    too.
    """

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
        """Return the errors, option names and contract terms of each service.

        ``meanwhile`` is called before the response is read. Raises PluginError if a plugin makes the process hang or
        exit.
        """
        with self._process as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker: stdin is PIPE
            with contextlib.suppress(BrokenPipeError):  # the process has exited, and the error below reports the reason
                process.stdin.write(json.dumps([str(folder), services]).encode() + b"\n")
                process.stdin.flush()
            meanwhile()
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired as late:
                process.kill()
                raise PluginError(
                    f"plugin {_last_line(late.stdout)!r}: the import took over {TIMEOUT} s; move slow code from"
                    " the module into the 'start' hook"
                ) from None
        last = _last_line(out)
        try:
            answer: dict[str, Any] = json.loads(last)
        except ValueError:
            # The last line is the name of the plugin whose import stopped the process.
            lines = err.decode("utf-8", "replace").strip().splitlines()
            reason = f"exit {process.returncode}" + (f", {lines[-1]}" if lines else "")
            raise PluginError(
                f"plugin {last!r}: the import stopped the process, {reason}; fix or remove the plugin"
            ) from None
        return answer


def _last_line(output: bytes | None) -> str:
    *_, last = [b"", *(output or b"").splitlines()]
    return last.decode("utf-8", "replace")
