"""The supervisor's side of the guardian, which restarts the guardian and sends it the process groups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from runner.supervisor.processes import guardian
from runner.supervisor.processes.process import INSTANCE

#: Seconds before an exited guardian is restarted, so that repeated failures do not waste CPU time.
RESTART_DELAY = 0.2
#: Seconds to wait for the guardian to exit. By then, the guardian has no process left to stop.
END_TIME = 2.0


class Guard:
    """The guardian process, which is restarted with the same process groups if it exits.

    The exit is detected with a pidfd, because writing to a pipe can succeed even after the reader was killed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, mark: str, on_restart: Callable[[], None]) -> None:
        """``mark`` is the prefix of the instance names in the environments of all descendants."""
        self._loop, self._mark, self._on_restart = loop, mark, on_restart
        self._groups: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._start()

    def add(self, group: int) -> None:
        """Add a process group that the guardian stops if the supervisor is killed."""
        if group not in self._groups:
            self._groups.add(group)
            self._send(f"+{group}")

    def remove(self, group: int) -> None:
        """Remove a process group that no longer exists."""
        if group in self._groups:
            self._groups.discard(group)
            self._send(f"-{group}")

    @property
    def pid(self) -> int:
        """The process id of the guardian."""
        return self._process.pid

    def close(self) -> None:
        """Stop the guardian and the remaining process groups."""
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._forget()

    def _start(self) -> None:
        self._timer = None
        # Without site packages, which the guardian does not need, the interpreter starts in half the time.
        command = [sys.executable, "-I", "-S", guardian.__file__, INSTANCE, self._mark]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self._exit_descriptor = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._exit_descriptor, self._ended)
        for group in self._groups:
            self._send(f"+{group}")

    def _ended(self) -> None:
        self._forget()
        self._timer = self._loop.call_later(RESTART_DELAY, self._restart)

    def _restart(self) -> None:
        try:
            self._start()
        except OSError:  # out of memory or processes, which may also be why the last guardian exited
            self._timer = self._loop.call_later(RESTART_DELAY, self._restart)
        else:
            self._on_restart()

    def _forget(self) -> None:
        self._loop.remove_reader(self._exit_descriptor)
        os.close(self._exit_descriptor)
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.send_signal(signal.SIGCONT)  # a stopped guardian would never read end-of-file
        try:
            self._process.wait(END_TIME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        if self._timer is None:
            # If the guardian has just exited, the next guardian gets all groups.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line.encode() + b"\n")
