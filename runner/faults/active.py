"""Injected faults that last for a while: each is a file in ``var/faults``.

A file is replaced as a whole. It says when the fault began, by the machine's clock, and how long it lasts. So a fault
ends by itself, whichever process is killed meanwhile, and holds for a worker that starts while it lasts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.bounded_file import read_bounded
from runner.errors import RunnerError
from runner.invocation import invocation
from runner.proc import Identity

#: Bytes of a note of a fault.
MAX_NOTE = 64 * 1024

#: Seconds between two reads of a fault's file.
INTERVAL = 0.1
#: Names the runner that was started with ``faults: true``.
_RUNNER = "runner"


@dataclass(frozen=True)
class ActiveFault:
    """One fault that lasts."""

    #: ``slow``, ``cut``, ``hang`` or ``duplicate``.
    fault: str
    #: A service, a slot or a queue; empty for all services.
    target: str
    #: When it began, in seconds since the epoch, and how many seconds it lasts.
    began: float
    seconds: float
    #: Of ``slow``, how many seconds longer each handler takes.
    delay: float = 0.0
    #: The process without which it is over: of ``hang`` the one that is stopped, of ``duplicate`` the command.
    process: Identity | None = None

    @property
    def until(self) -> float:
        """When it is over, in seconds since the epoch."""
        return self.began + self.seconds

    @property
    def clock(self) -> str:
        """The same as the time of day in the machine's own zone."""
        return time.strftime("%H:%M:%S", time.localtime(self.until))

    @property
    def lasts(self) -> bool:
        """Whether it is not over."""
        # Before its beginning it is over too: a clock that is set back would prolong it by as much.
        is_time = self.began <= time.time() < self.until
        return is_time and (self.process is None or self.process.state != "")

    def let_go(self) -> bool:
        """Let the process that a ``hang`` has stopped go on; whether it was stopped. Raises PermissionError."""
        if self.fault != "hang" or self.process is None:
            return False
        state = self.process.state
        if state:
            with contextlib.suppress(ProcessLookupError):
                self.process.send(signal.SIGCONT)
        return state == "T"


class FaultFolder:
    """``var/faults``: a file for each fault that lasts."""

    def __init__(self, var: Path) -> None:
        self.path = var / "faults"

    def begin(self, runner: int | None) -> None:
        """Note the pid of a runner that starts with ``faults: true``; None takes the note away.

        Raises RunnerError where nothing can be written.
        """
        if runner is None:
            # A note that cannot be taken away does no harm: it names a process that has ended.
            with contextlib.suppress(OSError):
                (self.path / _RUNNER).unlink()
            return
        with self._lock():
            self._replace(_RUNNER, _note(runner))

    def is_on(self, runner: int) -> bool:
        """Whether the runner with this pid was started with ``faults: true``."""
        with contextlib.suppress(OSError):
            return (self.path / _RUNNER).read_text("utf-8") == _note(runner)
        return False

    def file(self, name: str) -> Path:
        """The file of the fault that is called ``name`` here, such as ``slow.payment``."""
        return self.path / f"{name}.json"

    def write(self, name: str, active: ActiveFault) -> None:
        """Let a fault begin; it takes the place of one of the same name. Raises RunnerError."""
        with self._lock():
            self._put(name, active)

    def claim(self, name: str, active: ActiveFault) -> None:
        """Let a fault begin that cannot take another one's place. Raises RunnerError while one of its name lasts."""
        with self._lock():
            lasting = self.read(name)
            if lasting is not None:
                what = f"{lasting.fault} lasts until {lasting.clock}"
                raise RunnerError(f"{lasting.target}: {what}; wait, or end it: {invocation('fault', 'clear')}")
            self._put(name, active)

    def noted(self, name: str) -> ActiveFault | None:
        """A fault by its name, also one that is over; None where there is none."""
        try:
            found = json.loads(read_bounded(self.file(name), MAX_NOTE, 0.0))
            process = found["process"]
            return ActiveFault(
                str(found["fault"]), str(found["target"]), float(found["began"]), float(found["seconds"]),
                float(found["delay"]), process and Identity(int(process["pid"]), int(process["start"])),
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None  # also what a person has written there by hand

    def read(self, name: str) -> ActiveFault | None:
        """A fault by its name; None where there is none or it is over."""
        found = self.noted(name)
        return found if found is not None and found.lasts else None

    def active(self) -> list[ActiveFault]:
        """All that last now."""
        found = (self.read(file.stem) for file in sorted(self.path.glob("*.json")))
        return [one for one in found if one is not None]

    def clear(self) -> list[ActiveFault]:
        """End all that last, and let go on what is still stopped; returns what they were. Raises RunnerError."""
        if not self.path.exists():
            return []
        ended = []
        with self._lock():
            for file in sorted(self.path.glob("*.json")):
                found = self.noted(file.stem)
                lasted = found is not None and found.lasts
                was_stopped = self._take_away(file.stem, found)
                if found is not None and (lasted or was_stopped):
                    ended.append(found)
        return ended

    def end(self, name: str, active: ActiveFault) -> None:
        """End a fault, unless another one has taken its place. Raises RunnerError."""
        with self._lock():
            if self.noted(name) in (active, None):
                self._take_away(name, active)

    def _put(self, name: str, active: ActiveFault) -> None:
        for file in self.path.glob("*.json"):
            found = self.noted(file.stem)
            if found is not None and not found.lasts:
                with contextlib.suppress(RunnerError):  # another user's is in nobody's way
                    self._take_away(file.stem, found)
        self._replace(f"{name}.json", json.dumps(asdict(active)))

    def _take_away(self, name: str, active: ActiveFault | None) -> bool:
        """Whether a process goes on by it: what was to let it go on may have been killed."""
        try:
            was_stopped = active is not None and active.let_go()
        except PermissionError:
            raise RunnerError(f"{name}: its process is another user's; be that user, or root") from None
        with self._writing():
            self.file(name).unlink(missing_ok=True)
        return was_stopped

    def _replace(self, name: str, text: str) -> None:
        # The lock is held, so that one that was left by a process that was killed may be written over.
        new = self.path / f"{name}.new"
        with self._writing():
            new.write_text(text, "utf-8")
            new.replace(self.path / name)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self._writing():
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunnerError(f"{self.path}: cannot be written, {error.strerror}; be the runner's user") from None


def _note(runner: int) -> str:
    found = Identity.of(runner)
    return f"{runner} {found.start if found is not None else 0}"
