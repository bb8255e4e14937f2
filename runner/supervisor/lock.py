"""One runner for one project folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from runner.errors import AlreadyRunning, RunnerError
from runner.invocation import invocation

FILE = "runner.lock"


def take_lock(var: Path) -> IO[str]:
    """Hold the project's folder until the returned file is closed or this process ends, however it ends.

    Raises AlreadyRunning with the pid of the runner that holds it.
    """
    try:
        var.mkdir(parents=True, exist_ok=True)
        file = (var / FILE).open("a+", encoding="ascii")
    except OSError as error:
        what = f"{error.filename}: cannot be used, {error.strerror}"
        raise RunnerError(f"{what}; give this user a folder to write to") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        words = f"a runner is already running here, pid {holder}; end it: {invocation('down')}"
        raise AlreadyRunning(f"{var.parent.resolve()}: {words}") from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
