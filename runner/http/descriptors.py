"""The number of connections that there can be: each needs one of the process's descriptors (getrlimit(2))."""

from __future__ import annotations

import logging
import os
import resource
import time

#: Descriptors that are not for connections, as far as there are enough: for broker, database and log.
RESERVED = 32
#: Seconds between two warnings that there are no descriptors left.
WARNING_PAUSE = 10.0


def most_connections(wanted: int, log: logging.Logger) -> int:
    """Return how many connections this process has descriptors for, ``wanted`` at most; warn if they are fewer."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    free = max(0, limit - len(os.listdir("/proc/self/fd")))
    most = max(1, min(wanted, free - min(RESERVED, free // 2)))
    if most < wanted:
        needed = limit + wanted - free + RESERVED
        log.warning(
            "at most %s connections at once, because this process may have %s files open (ulimit -n); "
            "%s are enough for %s",
            most,
            limit,
            needed,
            wanted,
        )
    return most


class Shortage:
    """Reports that there are no descriptors left, now and then."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._next = log, 0.0

    def report(self, error: OSError) -> None:
        """Report it, unless that was done lately."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + WARNING_PAUSE
            self._log.warning("no connection can be accepted, %s (ulimit -n)", error.strerror)
