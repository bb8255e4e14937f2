"""The number of possible connections. Each needs a file descriptor of the process (getrlimit(2))."""

from __future__ import annotations

import logging
import os
import resource
import time

#: Descriptors that are reserved for broker, database and log. If there are few descriptors, at most half are reserved.
RESERVED = 32
#: The minimum number of seconds between two warnings.
WARNING_PAUSE = 10.0


def most_connections(wanted: int, log: logging.Logger) -> int:
    """Return the number of connections for which this process has descriptors, at most ``wanted``.

    Log a warning if the number is lower than ``wanted``.
    """
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
    """A warning about missing descriptors, logged at most once in ``WARNING_PAUSE``."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._next = log, 0.0

    def report(self, error: OSError) -> None:
        """Log the error, unless a warning was logged within ``WARNING_PAUSE``."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + WARNING_PAUSE
            self._log.warning("no connection can be accepted, %s (ulimit -n)", error.strerror)
