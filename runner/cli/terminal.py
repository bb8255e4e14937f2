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
    try:
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return  # in the background the terminal is the shell's
    except OSError:
        return  # not the terminal that signals come from
    # A background process that takes the terminal gets SIGTTOU (POSIX, tcsetpgrp).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    # Ctrl-Z would stop this group alone, and leave make waiting with a terminal that nobody reads.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
