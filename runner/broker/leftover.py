"""What a killed run left of its node: found by its pid file, recognised by its command line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

from runner.broker.folder import Folder
from runner.proc import command_line, read_stat

log = logging.getLogger(__name__)

#: A node whose parent died stops by itself within this time, in s.
_OWN_STOP_SECONDS = 3.0
_TERM_SECONDS = 8.0
_KILL_SECONDS = 5.0


def find_leftover(folder: Folder) -> int | None:
    """Return the pid of a node that lives on in this folder though the process that ran it is gone."""
    pid = node_pid(folder)
    if pid is None or _is_run(pid):
        return None
    return pid


def end_leftover(folder: Folder) -> None:
    """Wait for a node of this folder to be gone, and end it when it does not go; two would share the data."""
    pid = node_pid(folder)
    if pid is None:
        return
    log.warning("a RabbitMQ node of an earlier run still holds %s, waiting for pid %d", folder.path, pid)
    if _gone(folder, _OWN_STOP_SECONDS):
        return
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _gone(folder, seconds):
            return


def node_pid(folder: Folder) -> int | None:
    """Return the pid of the node that runs in this folder, or None."""
    try:
        pid = int(folder.pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # Pids are used again, so another process may have this one by now.
    return pid if folder.node_name.encode() in command_line(pid) else None


def _is_run(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and b"runner.broker.node" in command_line(stat.parent)


def _gone(folder: Folder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while node_pid(folder) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
