"""Faults that somebody injects on purpose: the files that say which last for now, and what a worker does of them.

Each is a file of its own in ``var/faults``, replaced as a whole, with the time at which it is over by the machine's
clock: so it ends by itself, whoever is killed meanwhile, and holds for a worker that starts while it lasts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import RunnerError
from runner.messages import Message

if TYPE_CHECKING:
    from runner.amqp.link import IoThread

#: The header of a message that is to end its worker, and what it says.
HEADER, KILL = "x-fault", "kill"
#: Seconds between two looks of a worker.
INTERVAL = 0.1
#: Names the runner that was started with ``faults: true``.
_RUNNER = "runner"


@dataclass(frozen=True)
class Active:
    """One fault that lasts."""

    #: ``slow``, ``cut``, ``hang`` or ``duplicate``.
    fault: str
    #: A service, a slot or a queue; empty for all services.
    target: str
    #: Seconds since the epoch.
    until: float
    #: Of ``slow``, how many seconds longer each handler takes.
    delay: float = 0.0


class FaultFolder:
    """``var/faults``: a file for each fault that lasts."""

    def __init__(self, var: Path) -> None:
        self.path = var / "faults"

    def begin(self, runner: int | None) -> None:
        """Note the pid of a runner that starts with ``faults: true``; None for one that starts without.

        Raises RunnerError where nothing can be written.
        """
        marker = self.path / _RUNNER
        if runner is None:
            marker.unlink(missing_ok=True)
        else:
            self._replace(_RUNNER, str(runner))

    def is_on(self, runner: int) -> bool:
        """Whether the runner with this pid was started with ``faults: true``."""
        with contextlib.suppress(OSError):
            return (self.path / _RUNNER).read_text("utf-8") == str(runner)
        return False

    def file(self, name: str) -> Path:
        """The file of the fault that is called ``name`` here, such as ``slow.payment``."""
        return self.path / f"{name}.json"

    def write(self, name: str, active: Active) -> None:
        """Let a fault begin; it takes the place of one of the same name. Raises RunnerError."""
        self._replace(f"{name}.json", json.dumps(asdict(active)))

    def read(self, name: str) -> Active | None:
        """A fault by its name; None where there is none or it is over."""
        try:
            active = Active(**json.loads(self.file(name).read_bytes()))
            return active if time.time() < active.until else None
        except (OSError, ValueError, TypeError):
            return None  # also what a person has written there by hand

    def active(self) -> list[Active]:
        """All that last now."""
        found = (self.read(file.stem) for file in sorted(self.path.glob("*.json")))
        return [one for one in found if one is not None]

    def clear(self) -> list[Active]:
        """End all that last; returns what they were."""
        found = self.active()
        for file in self.path.glob("*.json"):
            file.unlink(missing_ok=True)
        return found

    def _replace(self, name: str, text: str) -> None:
        new = self.path / f"{name}.{os.getpid()}.new"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            new.write_text(text, "utf-8")
            new.replace(self.path / name)
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}; be the runner's user") from None


class Faults:
    """What a worker of a service looks for, where ``faults`` is true."""

    def __init__(self, var: Path, service: str) -> None:
        self._folder, self._service = FaultFolder(var), service

    def before(self, message: Message) -> None:
        """What a handler meets where it would begin with a message. From a handler thread."""
        if message.headers.get(HEADER) == KILL:
            # On this thread, so that the handler does not go on for even a moment.
            signal.raise_signal(signal.SIGSEGV)
        deadline: float | None = None
        while (slow := self._folder.read(f"slow.{self._service}")) is not None:
            now = time.monotonic()
            deadline = now + slow.delay if deadline is None else deadline
            if now >= deadline:
                break
            time.sleep(min(INTERVAL, deadline - now))

    def cut(self) -> str | None:
        """Why there is to be no connection to the broker now, or None."""
        found = [self._folder.read(name) for name in ("cut", f"cut.{self._service}")]
        until = max((one.until for one in found if one is not None), default=None)
        if until is None:
            return None
        return f"cut off on purpose until {time.strftime('%H:%M:%S', time.localtime(until))}"

    def watch(self, io: IoThread) -> None:
        """Look for a cut from now on, first of all that the thread does."""
        io.call(partial(self._look, io))

    def _look(self, io: IoThread) -> None:
        reason = self.cut()
        if (reason is None) != (io.cut is None):
            io.cut_off(reason)
        io.loop.call_later(INTERVAL, partial(self._look, io))
