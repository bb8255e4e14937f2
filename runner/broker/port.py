"""The ports of a private broker, which are all on a loopback address."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass

log = logging.getLogger(__name__)

_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Ports:
    """The three ports of a broker. RabbitMQ's defaults are 5672, 15672 and 25672."""

    amqp: int
    management: int
    distribution: int


def ports_of(port: int, host: str = "127.0.0.1") -> Ports:
    """Return a broker's ports for a given AMQP port.

    The management port is the AMQP port plus 10000, and the distribution port is the AMQP port plus 20000. A port that
    is in use is replaced with a free port.
    """
    return Ports(port, available("management", port + 10000, host), available("distribution", port + 20000))


def available(purpose: str, port: int, host: str = "127.0.0.1") -> int:
    """Return ``port`` if it is free. Otherwise, log a warning and return a free port."""
    if port <= _HIGHEST_PORT and is_free(port, host):
        return port
    chosen = free_port(host)
    reason = "is in use" if port <= _HIGHEST_PORT else f"is above {_HIGHEST_PORT}"
    log.warning("%s port %d %s; using port %d instead", purpose, port, reason, chosen)
    return chosen


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return True if a server could listen on the port now."""
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is currently free."""
    with _bind(host, 0) as listener:
        number: int = listener.getsockname()[1]
        return number


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Servers also set this option, which permits lingering connections from an earlier server, but not a second
        # listener.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener
