"""The supervisor's end of the guardian: keeps one running and tells it which process groups to end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

from runner.supervisor import guardian


class Guard:
    """Starts the guardian, and again with the same list should it ever end."""

    def __init__(self, on_restart: Callable[[], None]) -> None:
        self._on_restart = on_restart
        self._groups: set[int] = set()
        self._process = self._start()

    def add(self, group: int) -> None:
        """From now on this group is ended with the supervisor."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """Forget a group that is gone."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    def close(self) -> None:
        """End the guardian; the groups that are left end with it."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # By path and without site packages: it needs neither, and starts in half the time.
        command = [sys.executable, "-I", "-S", guardian.__file__]
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        try:
            os.write(self._process.stdin.fileno(), line.encode() + b"\n")
        except BrokenPipeError:
            self._process.stdin.close()
            self._process.wait()
            self._process = self._start()
            self._on_restart()
            for group in tuple(self._groups):
                self._tell(f"+{group}")
