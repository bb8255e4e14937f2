"""The process that pauses and resumes a worker: ``python -m runner.faults.release VAR SLOT PID START SECONDS``.

The process is independent of the ``fault pause`` command, so the worker is resumed even if the command is killed. The
process prints one line with the end of the pause or the reason for a failure. If the fault file in ``var/faults`` is
removed, the pause ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from runner.errors import RunnerError
from runner.faults.active import INTERVAL, ActiveFault, FaultFolder
from runner.proc import Identity

#: The first word of the printed line. After ``stopped``, the line contains the end of the pause in seconds since the
#: epoch. After ``failed``, the line contains the reason.
STOPPED, FAILED = "stopped", "failed"
#: Seconds to wait for a process to stop, which a slow disk can delay.
STOP_TIME = 5.0


def main() -> None:
    """Stop the worker's process, wait, and resume the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder, slot = FaultFolder(Path(sys.argv[1])), sys.argv[2]
    process, seconds = Identity(int(sys.argv[3]), int(sys.argv[4])), float(sys.argv[5])
    try:
        _pause(folder, slot, process, seconds)
    except RunnerError as error:
        _print(f"{FAILED} {error}")
    except ProcessLookupError:
        _print(f"{FAILED} {slot}: pid {process.pid} has just exited; try again")
    except PermissionError:
        _print(f"{FAILED} {slot}: pid {process.pid} belongs to another user; run the command as that user or as root")


def _pause(folder: FaultFolder, slot: str, process: Identity, seconds: float) -> None:
    process.send(0)  # fails here, before the pause, if the user lacks permission to signal the process
    name, deadline = f"pause.{slot}", time.monotonic() + seconds
    active = ActiveFault("pause", slot, time.time(), seconds, process=process)
    # The file is written before SIGSTOP, so that ``fault clear`` can resume the worker if this process is killed.
    folder.claim(name, active)
    try:
        process.send(signal.SIGSTOP)
        process.wait_stopped(STOP_TIME)
        _print(f"{STOPPED} {active.until!r}")
        while (left := deadline - time.monotonic()) > 0 and folder.read(name) == active:
            time.sleep(min(left, INTERVAL))
    finally:
        try:
            folder.end(name, active)
        except RunnerError:
            active.resume()  # resumed even if the folder is not writable


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # the command may have been killed
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    main()
