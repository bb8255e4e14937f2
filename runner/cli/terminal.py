"""What the command line needs to know of the terminal it runs in."""

from __future__ import annotations

import os
import signal
import sys


def has_colour() -> bool:
    """Whether to colour: only on a terminal, and not against its user's wish (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def take_foreground() -> None:
    """Under make, let Ctrl-C reach this process alone.

    The terminal sends SIGINT to its whole foreground group, and make would then report a clean stop as a failure.
    """
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        return
    # A background process that takes the terminal gets SIGTTOU (POSIX, tcsetpgrp).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
