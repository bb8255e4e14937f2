"""Let a stopped process go on after a time, whatever becomes of the command that stopped it.

``python release.py PID SECONDS FILE``: a process of its own with the bare standard library, so that it is small and
starts fast. It says when it is ready, and only then is the other one stopped. It is over sooner where ``FILE`` is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

#: Seconds between two looks at the file.
INTERVAL = 0.1


def main() -> None:
    """Wait, and send SIGCONT."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pid, seconds, file = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    # Not the pid itself, which another process may have by then (pidfd_open(2)).
    process = os.pidfd_open(pid)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.close()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and os.path.exists(file):
        if select.select([process], [], [], min(left, INTERVAL))[0]:
            break  # it is gone, as by its watchdog
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGCONT)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file)


if __name__ == "__main__":
    main()
