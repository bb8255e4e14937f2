"""The address on which a service listens, and the maximum number of connections.

Each connection needs a file descriptor in the process (getrlimit(2)).
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

#: The number of file descriptors reserved for broker, database and log. At most half of the free descriptors are
#: reserved.
RESERVED = 32
#: The minimum time between two warnings, in seconds.
WARNING_PAUSE = 10.0


def bind(host: str, port: int, context: Context) -> socket.socket:
    """Return a socket that listens on the address.

    Raises PluginError or RunnerError. The error names the option (``host`` or ``port``) and a remedy.
    """
    where = f"services.{context.service}.options"
    if not 0 <= port <= 65535:
        raise PluginError(f"{where}.port: out of range, {port}; allowed: 0 to 65535")
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        *_, address = found[0]
        return context.listen(address[0], port)
    except UnicodeError:
        raise PluginError(f"{where}.host: not a host name, {host!r}; allowed: such as 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunnerError(
                f"{where}.port: {port} is in use on {host}; stop the program that listens there, or choose another port"
            ) from None
        if error.errno == errno.EACCES:
            raise PluginError(f"{where}.port: not allowed for this user, {port}; choose a port over 1023") from None
        raise RunnerError(
            f"{where}.host: cannot listen on {host!r}, {error.strerror}; "
            "choose an address of this machine, such as 127.0.0.1"
        ) from None


def most_connections(wanted: int, log: logging.Logger) -> int:
    """Return the number of connections for which this process has file descriptors, at most ``wanted``.

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
            "at most %s connections can be open, because this process is limited to %s open files (ulimit -n); "
            "a limit of %s is enough for %s connections",
            most,
            limit,
            needed,
            wanted,
        )
    return most


class Shortage:
    """A warning about a lack of file descriptors, which is logged at most once per ``WARNING_PAUSE``."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._next = log, 0.0

    def report(self, error: OSError) -> None:
        """Log the error, unless a warning was logged within ``WARNING_PAUSE``."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + WARNING_PAUSE
            self._log.warning("new connections cannot be accepted: %s (ulimit -n)", error.strerror)
