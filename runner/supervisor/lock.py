"""The lock on a project's folder, which ensures that only one supervisor runs in the folder."""

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
#: Seconds to wait for another process that only checks the lock.
_CHECK_TIME = 0.1
#: The number of bytes to read from the lock file, which is more than enough for a pid.
_MAX_BYTES = 100


def take_lock(var: Path) -> IO[str]:
    """Lock the project's folder until the returned file is closed or this process exits.

    Raises AlreadyRunning with the pid of the supervisor that has locked the folder. Raises RunnerError if this user
    cannot write to the folder.
    """
    try:
        var.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A symbolic link is not followed, because the content of the link's target would be overwritten.
        descriptor = os.open(var / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        file = os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")
    except OSError as error:
        what = f"{error.filename}: cannot be used, {error.strerror}"
        raise RunnerError(f"{what}; allowed: a folder that this user can write to") from None
    if not os.access(var, os.W_OK | os.X_OK):
        file.close()
        raise RunnerError(f"{var}: this user lacks write permission; allowed: a folder that this user can write to")
    if not _is_taken(file):
        holder = _pid_in(file)
        file.close()
        words = f"a supervisor is already running in this folder, pid {holder}; stop it with: {invocation('down')}"
        raise AlreadyRunning(f"{var.parent.resolve()}: {words}")
    try:
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()
        raise RunnerError(f"{var / FILE}: cannot be written, {error.strerror}; free space on the disk") from None
    return file


def holder_of(var: Path) -> str | None:
    """Return the pid of the process that has locked the project's folder, or None if the folder is not locked."""
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
    """Return True if ``file`` is still the lock file in the folder, which other processes check."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(var / FILE))
    return False


def _is_taken(file: IO[str]) -> bool:
    deadline = time.monotonic() + _CHECK_TIME
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
