"""The address on which a service listens."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from runner.errors import PluginError, RunnerError

if TYPE_CHECKING:
    from runner import Context


def bind(host: str, port: int, context: Context) -> socket.socket:
    """Return a socket that listens on the address.

    Raises PluginError or RunnerError. Their text contains the fix and names the options ``host`` and ``port``.
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
