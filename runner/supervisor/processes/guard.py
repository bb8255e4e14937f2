"""The supervisor's end of the guardian: keeps one running and tells it which process groups to end."""

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

#: Seconds before a guardian that ended is started again, so that one that cannot run does not spin.
RESTART_DELAY = 0.2
#: Seconds for it to end; nothing is left then that it would have to wait for.
END_TIME = 2.0


class Guard:
    """Starts the guardian, and again with the same list should it ever end.

    Its end is watched and not only met at the next write: a pipe takes words for a while after its reader was killed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, mark: str, on_restart: Callable[[], None]) -> None:
        """``mark`` begins the name of each instance, in the environment of all that descends from it."""
        self._loop, self._mark, self._on_restart = loop, mark, on_restart
        self._groups: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._start()

    def add(self, group: int) -> None:
        """From now on this group is ended with the supervisor."""
        if group not in self._groups:
            self._groups.add(group)
            self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """Forget a group that is gone."""
        if group in self._groups:
            self._groups.discard(group)
            self._tell(f"-{group}")

    @property
    def pid(self) -> int:
        """The guardian's own process."""
        return self._process.pid

    def close(self) -> None:
        """End the guardian; the groups that are left end with it."""
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._forget()

    def _start(self) -> None:
        self._timer = None
        # By path and without site packages: it needs neither, and starts in half the time.
        command = [sys.executable, "-I", "-S", guardian.__file__, INSTANCE, self._mark]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self._exit_descriptor = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._exit_descriptor, self._ended)
        for group in self._groups:
            self._tell(f"+{group}")

    def _ended(self) -> None:
        self._forget()
        self._timer = self._loop.call_later(RESTART_DELAY, self._restart)

    def _restart(self) -> None:
        try:
            self._start()
        except OSError:  # short of memory or processes, as what ended the last one
            self._timer = self._loop.call_later(RESTART_DELAY, self._restart)
        else:
            self._on_restart()

    def _forget(self) -> None:
        self._loop.remove_reader(self._exit_descriptor)
        os.close(self._exit_descriptor)
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.send_signal(signal.SIGCONT)  # one that was stopped would never see the end of its input
        try:
            self._process.wait(END_TIME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        if self._timer is None:
            # Where it has just ended, the next one is told of all groups.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line.encode() + b"\n")
