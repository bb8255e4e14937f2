"""One runner for one project folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

from runner.errors import AlreadyRunning, RunnerError
from runner.invocation import invocation

FILE = "runner.lock"
#: Seconds for which a process that only checks the lock may hold it.
_ASKING = 0.1
#: Bytes of a pid, and more.
_MAX_BYTES = 100


def take_lock(var: Path) -> IO[str]:
    """Hold the project's folder until the returned file is closed or this process ends, however it ends.

    Raises AlreadyRunning with the pid of the runner that holds it, and RunnerError if this user may not write there.
    """
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not through a link, because what is in the file is replaced.
        descriptor = os.open(var / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        file = os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")
    except OSError as error:
        what = f"{error.filename}: cannot be used, {error.strerror}"
        raise RunnerError(f"{what}; give this user a folder to write to") from None
    if not os.access(var, os.W_OK | os.X_OK):
        file.close()
        raise RunnerError(f"{var}: cannot be used, this user may not write there; give this user a folder to write to")
    if not _is_taken(file):
        holder = _pid_in(file)
        file.close()
        words = f"a runner is already running here, pid {holder}; end it: {invocation('down')}"
        raise AlreadyRunning(f"{var.parent.resolve()}: {words}")
    try:
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()
        raise RunnerError(f"{var / FILE}: cannot be written, {error.strerror}; make room there") from None
    return file


def holder_of(var: Path) -> str | None:
    """Return the pid of the process that holds the project's folder, or None if none does."""
    try:
        file = (var / FILE).open(encoding="ascii", errors="replace")
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid_in(file)
        return None


def is_in_place(file: IO[str], var: Path) -> bool:
    """Return True if others who want to hold the folder still meet this lock."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(var / FILE))
    return False


def _is_taken(file: IO[str]) -> bool:
    deadline = time.monotonic() + _ASKING
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _pid_in(file: IO[str]) -> str:
    file.seek(0)
    return file.read(_MAX_BYTES).strip() or "unknown"
