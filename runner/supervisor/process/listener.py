"""Listening sockets that a service's instances share and that outlive them, so that no connection is refused."""

from __future__ import annotations

import errno
import socket
from collections import defaultdict

#: Connections that may wait while no instance accepts any, as during a restart.
BACKLOG = 1024

Address = tuple[str, int]


class Listeners:
    """One socket for each service and address; it is closed once none of those who asked for it uses it any more."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, Address], socket.socket] = {}
        self._users: dict[tuple[str, Address], set[object]] = defaultdict(set)

    def get(self, service: str, owner: object, address: str) -> socket.socket:
        """The socket that listens on ``address``, a number and a port with a space between.

        Raises OSError where that is no address of this machine, or is taken.
        """
        host, _, port = address.rpartition(" ")
        if not port.isdecimal():
            raise OSError(errno.EINVAL, f"not an address, {address!r}")
        key = (service, (host, int(port)))
        if key not in self._sockets:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
            # The description is shared: whoever finds that another one has accepted must not wait.
            listener.setblocking(False)
            self._sockets[key] = listener
        self._users[key].add(owner)
        return self._sockets[key]

    def keep_only(self, owner: object, addresses: set[str]) -> None:
        """The owner's process of now uses no others; what nobody uses is closed."""
        for key, users in list(self._users.items()):
            host, port = key[1]
            if f"{host} {port}" not in addresses:
                users.discard(owner)
            if not users:
                self._sockets.pop(key).close()
                del self._users[key]

    def close(self) -> None:
        """Close all."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._users.clear()
