"""The socket and the lock by which commands find a supervisor; they are created again if they are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runner.errors import RunnerError
from runner.supervisor.control import FILE
from runner.supervisor.control.socket_server import Control
from runner.supervisor.lock import FILE as LOCK
from runner.supervisor.lock import is_in_place, take_lock
from runner.supervisor.output.journal import Journal

#: Seconds between two checks.
INTERVAL = 1.0


class Presence:
    """The keeper of the socket and the lock in ``folder``; the caller has ``lock`` already."""

    def __init__(self, folder: Path, lock: IO[str], control: Control, journal: Journal) -> None:
        self._folder, self._lock, self._control, self._journal = folder, lock, control, journal
        #: The locks to close; the caller closes its own lock.
        self._own: list[IO[str]] = []
        self._last_problem = ""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Callable[[], None]:
        """Start the checks; return the function that stops them."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
        return self._end

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for lock in self._own:
            lock.close()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
        try:
            if not is_in_place(self._lock, self._folder):
                self._lock = take_lock(self._folder)
                self._own.append(self._lock)
                self._journal.say(f"{self._folder / LOCK} was removed while this runner runs: made again", "warning")
            if self._control.restore():
                self._journal.say(f"{self._folder / FILE} was removed while this runner runs: made again", "warning")
            self._last_problem = ""
        except RunnerError as error:
            self._say_once(str(error))
        except OSError as error:
            self._say_once(
                f"{self._folder / FILE}: cannot be made again, {error.strerror}; commands cannot reach this runner"
            )

    def _say_once(self, problem: str) -> None:
        if problem != self._last_problem:
            self._journal.say(problem, "error")
        self._last_problem = problem
