"""Stop a process and let it go on after a time, whatever becomes of the command that asks for it.

``python -m runner.faults.release VAR SLOT PID START SECONDS``: a process of its own does both, so that nothing can
come in between. It tells in one line when the time is over, or why the process is not stopped. It is over sooner where
its file in ``var/faults`` is gone.
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

#: The first word of the line, before the seconds since the epoch at which it is over, or the reason.
STOPPED, FAILED = "stopped", "failed"
#: Seconds for a process to be stopped; one that writes to a slow disk takes its time.
STOP_TIME = 5.0


def main() -> None:
    """Stop it, wait, and let it go on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder, slot = FaultFolder(Path(sys.argv[1])), sys.argv[2]
    process, seconds = Identity(int(sys.argv[3]), int(sys.argv[4])), float(sys.argv[5])
    try:
        _hang(folder, slot, process, seconds)
    except RunnerError as error:
        _tell(f"{FAILED} {error}")
    except ProcessLookupError:
        _tell(f"{FAILED} {slot}: pid {process.pid} has just ended; try again")
    except PermissionError:
        _tell(f"{FAILED} {slot}: pid {process.pid} is another user's; be that user, or root")


def _hang(folder: FaultFolder, slot: str, process: Identity, seconds: float) -> None:
    process.send(0)  # whoever may not let it go on is not to begin
    name, deadline = f"hang.{slot}", time.monotonic() + seconds
    active = ActiveFault("hang", slot, time.time(), seconds, process=process)
    # Before it is stopped, so that "clear" lets it go on should this process be killed at any time from then on.
    folder.claim(name, active)
    try:
        process.send(signal.SIGSTOP)
        process.wait_stopped(STOP_TIME)
        _tell(f"{STOPPED} {active.until!r}")
        while (left := deadline - time.monotonic()) > 0 and folder.read(name) == active:
            time.sleep(min(left, INTERVAL))
    finally:
        try:
            folder.end(name, active)
        except RunnerError:
            active.let_go()  # whatever became of the folder


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the command may be gone
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    main()
