"""Active faults. Each injected fault with a duration is stored in a file in ``var/faults``.

The file contains the start time of the fault, by the machine's clock, and its duration. The fault therefore ends
automatically even if processes are killed, and also affects workers that start during the fault. Each write replaces
the complete file.
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

#: The maximum size of a fault file in bytes.
MAX_SIZE = 64 * 1024

#: Seconds between two reads of a fault file.
INTERVAL = 0.1
#: The file with the pid of the supervisor that was started with ``fault_injection: true``.
_SUPERVISOR = "runner"


@dataclass(frozen=True)
class ActiveFault:
    """One injected fault with a duration."""

    #: ``slow``, ``disconnect``, ``pause`` or ``duplicate``.
    fault: str
    #: A service, a slot or a queue, or an empty name for all services.
    target: str
    #: The start in seconds since the epoch, and the duration in seconds.
    began: float
    seconds: float
    #: The delay of each handler in seconds, only for ``slow``.
    delay: float = 0.0
    #: The process whose exit ends the fault. It is the stopped worker for ``pause``, or the command for ``duplicate``.
    process: Identity | None = None

    @property
    def until(self) -> float:
        """The end time in seconds since the epoch."""
        return self.began + self.seconds

    @property
    def clock(self) -> str:
        """The end time as a local time of day."""
        return time.strftime("%H:%M:%S", time.localtime(self.until))

    @property
    def lasts(self) -> bool:
        """True until the fault ends."""
        # A fault with a start time in the future has also ended. Otherwise, setting back the clock would prolong the
        # fault.
        is_time = self.began <= time.time() < self.until
        return is_time and (self.process is None or self.process.state != "")

    def resume(self) -> bool:
        """Resume the process that ``pause`` has stopped.

        Return True if the process was stopped. Raises PermissionError.
        """
        if self.fault != "pause" or self.process is None:
            return False
        state = self.process.state
        if state:
            with contextlib.suppress(ProcessLookupError):
                self.process.send(signal.SIGCONT)
        return state == "T"


class FaultFolder:
    """The folder ``var/faults``, with a file for each active fault."""

    def __init__(self, var: Path) -> None:
        self.path = var / "faults"

    def begin(self, runner: int | None) -> None:
        """Store the pid of a supervisor that starts with ``fault_injection: true``.

        If the pid is None, remove the stored pid.

        Raises RunnerError if the folder cannot be written.
        """
        if runner is None:
            # A pid that remains is harmless, because the file also contains the start time of the process.
            with contextlib.suppress(OSError):
                (self.path / _SUPERVISOR).unlink()
            return
        with self._lock():
            self._replace(_SUPERVISOR, _identity(runner))

    def is_on(self, runner: int) -> bool:
        """Return True if the supervisor with this pid was started with ``fault_injection: true``."""
        with contextlib.suppress(OSError):
            return (self.path / _SUPERVISOR).read_text("utf-8") == _identity(runner)
        return False

    def file(self, name: str) -> Path:
        """Return the path of the file for the fault with this name, such as ``slow.payment``."""
        return self.path / f"{name}.json"

    def write(self, name: str, active: ActiveFault) -> None:
        """Start a fault, and replace any fault with the same name. Raises RunnerError."""
        with self._lock():
            self._put(name, active)

    def claim(self, name: str, active: ActiveFault) -> None:
        """Start a fault. Raises RunnerError if a fault with the same name is active."""
        with self._lock():
            lasting = self.read(name)
            if lasting is not None:
                what = f"{lasting.fault} lasts until {lasting.clock}"
                raise RunnerError(f"{lasting.target}: {what}; wait, or end the fault: {invocation('fault', 'clear')}")
            self._put(name, active)

    def stored(self, name: str) -> ActiveFault | None:
        """Return the fault with this name, even if the fault has ended, or None if no valid file exists."""
        try:
            found = json.loads(read_bounded(self.file(name), MAX_SIZE, 0.0))
            process = found["process"]
            return ActiveFault(
                str(found["fault"]), str(found["target"]), float(found["began"]), float(found["seconds"]),
                float(found["delay"]), process and Identity(int(process["pid"]), int(process["start"])),
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None  # a user may have edited the file

    def read(self, name: str) -> ActiveFault | None:
        """Return the active fault with this name, or None if there is none."""
        found = self.stored(name)
        return found if found is not None and found.lasts else None

    def active(self) -> list[ActiveFault]:
        """Return all active faults, sorted by name."""
        found = (self.read(file.stem) for file in sorted(self.path.glob("*.json")))
        return [one for one in found if one is not None]

    def clear(self) -> list[ActiveFault]:
        """End all faults, and resume all stopped processes. Return the faults that were ended. Raises RunnerError."""
        if not self.path.exists():
            return []
        ended = []
        with self._lock():
            for file in sorted(self.path.glob("*.json")):
                found = self.stored(file.stem)
                lasted = found is not None and found.lasts
                was_stopped = self._remove(file.stem, found)
                if found is not None and (lasted or was_stopped):
                    ended.append(found)
        return ended

    def end(self, name: str, active: ActiveFault) -> None:
        """End a fault, unless a later fault has replaced it. Raises RunnerError."""
        with self._lock():
            if self.stored(name) in (active, None):
                self._remove(name, active)

    def _put(self, name: str, active: ActiveFault) -> None:
        for file in self.path.glob("*.json"):
            found = self.stored(file.stem)
            if found is not None and not found.lasts:
                with contextlib.suppress(RunnerError):  # an expired fault of another user is harmless
                    self._remove(file.stem, found)
        self._replace(f"{name}.json", json.dumps(asdict(active)))

    def _remove(self, name: str, active: ActiveFault | None) -> bool:
        """Remove a fault. Return True if the process was still stopped because its releasing process was killed."""
        try:
            was_stopped = active is not None and active.resume()
        except PermissionError:
            what = "the process belongs to another user; run the command as that user or as root"
            raise RunnerError(f"{name}: {what}") from None
        with self._writing():
            self.file(name).unlink(missing_ok=True)
        return was_stopped

    def _replace(self, name: str, text: str) -> None:
        # Under the lock, a temporary file that a killed process has left behind can be overwritten.
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
            what = f"cannot be written, {error.strerror}; run the command as the supervisor's user"
            raise RunnerError(f"{self.path}: {what}") from None


def _identity(runner: int) -> str:
    found = Identity.of(runner)
    return f"{runner} {found.start if found is not None else 0}"
