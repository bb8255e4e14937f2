"""A program that is killed when its parent process exits: ``bound_program.py PID PROGRAM ARGUMENT...``.

A check that is killed, for example because its terminal was closed, leaves no running system behind.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def run(parent: int, command: list[str]) -> None:
    """Replace this process with ``command``. ``parent`` is the pid of the parent process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have exited before the call.
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606 - the command is the check's own


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
