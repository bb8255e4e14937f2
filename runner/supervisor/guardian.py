"""A tiny process that ends the children's groups if the supervisor itself is killed.

It reads ``+PGID`` and ``-PGID`` lines. End-of-file means the supervisor is gone: what is still on the list gets
SIGTERM, and SIGKILL a little later. It runs with the bare standard library, so that it is small and starts fast.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

#: Seconds between SIGTERM and SIGKILL; a worker ends itself in about the same time.
GRACE = 1.5


def main() -> None:
    """Guard until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    _signal_all(groups, signal.SIGTERM)
    _signal_all(groups, signal.SIGCONT)
    deadline = time.monotonic() + GRACE
    while groups and time.monotonic() < deadline:
        groups = {group for group in groups if _exists(group)}
        time.sleep(0.02)
    _signal_all(groups, signal.SIGKILL)


def _signal_all(groups: set[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main()
