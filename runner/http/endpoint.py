"""The address on which a service listens, and the maximum number of its connections.

Each connection needs a file descriptor of the process (getrlimit(2)).
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import time
from typing import TYPE_CHECKING, Any

from runner.errors import PluginError, RunnerError

if TYPE_CHECKING:
    from runner import Context

#: The number of descriptors reserved for broker, database and log. At most half of all descriptors are reserved.
RESERVED = 32
#: Seconds that must pass between two warnings.
WARNING_PAUSE = 10.0


def bind(host: str, port: int, context: Context) -> socket.socket:
    """Return a socket that listens on the address.

    Raises PluginError or RunnerError. The error contains a fix and names the options ``host`` and ``port``.
    """
    where = f"services.{context.service}.options"
    if not 0 <= port <= 65535:
        raise PluginError(f"{where}.port: out of range, {port}; allowed: 0 to 65535")
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        *_, address = found[0]
        return context.listen(address[0], port)
    except UnicodeError:
        raise PluginError(f"{where}.host: not a host's name, {host!r}; allowed: such as 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunnerError(
                f"{where}.port: {port} is taken on {host}; stop the program that listens there, or choose another port"
            ) from None
        if error.errno == errno.EACCES:
            raise PluginError(f"{where}.port: {port} may not be opened by this user; choose one over 1023") from None
        raise RunnerError(
            f"{where}.host: cannot listen on {host!r}, {error.strerror}; "
            "choose an address of this computer, such as 127.0.0.1"
        ) from None


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
    """A warning about missing descriptors, which is logged at most once per ``WARNING_PAUSE``."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._next = log, 0.0

    def report(self, error: OSError) -> None:
        """Log the error, unless a warning was logged within ``WARNING_PAUSE``."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + WARNING_PAUSE
            self._log.warning("no connection can be accepted, %s (ulimit -n)", error.strerror)
