"""Listening sockets that a service's instances share. A socket outlives the instances, so no connection is refused."""

from __future__ import annotations

import errno
import socket
from collections import defaultdict

from runner.ipc.listening import give_up, listening_socket

Address = tuple[str, int]


class Listeners:
    """The listening sockets, one for each service and address. A socket is closed when its last owner releases it."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, Address], socket.socket] = {}
        self._users: dict[tuple[str, Address], set[object]] = defaultdict(set)

    def get(self, service: str, owner: object, address: str) -> socket.socket:
        """Return the socket that listens on ``address``: a numeric address and a port, separated by a space.

        Raises OSError if the address does not belong to this machine, or if another process uses the address.
        """
        host, _, port = address.rpartition(" ")
        if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
            raise OSError(errno.EINVAL, f"not an address, {address!r}")
        key = (service, (host, int(port)))
        if key not in self._sockets:
            self._sockets[key] = self._open(service, *key[1])
        self._users[key].add(owner)
        return self._sockets[key]

    def keep_only(self, owner: object, addresses: set[str]) -> None:
        """Remove the owner from all addresses except ``addresses``, and close the sockets without an owner."""
        for key, users in list(self._users.items()):
            host, port = key[1]
            if f"{host} {port}" not in addresses:
                users.discard(owner)
            if not users:
                self._close(key)

    def release(self, service: str) -> None:
        """Keep the sockets of a removed service for the next service that requests the same address."""
        # A socket that was requested with port 0 is not kept. Port 0 means any free port, so a new socket serves as
        # well.
        for name, address in [key for key in self._sockets if key[0] == service and key[1][1] != 0]:
            self._sockets["", address] = self._sockets.pop((name, address))
            self._users["", address] = self._users.pop((name, address))

    def close(self) -> None:
        """Close all sockets."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()
        self._users.clear()

    def _close(self, key: tuple[str, Address]) -> None:
        one = self._sockets.pop(key)
        del self._users[key]
        if self._with_same_port(*key):
            give_up(one)  # clients reach the other socket on this port
        one.close()

    def _with_same_port(self, service: str, address: Address) -> list[socket.socket]:
        port = address[1]
        return [
            one for (name, (_, taken)), one in self._sockets.items() if name in (service, "") and taken == port != 0
        ]

    def _open(self, service: str, host: str, port: int) -> socket.socket:
        if ("", (host, port)) in self._sockets:
            self._users[service, (host, port)] = self._users.pop(("", (host, port)))
            return self._sockets.pop(("", (host, port)))
        # A socket of this service on 0.0.0.0 would conflict with its sockets on other addresses with the same port.
        own = self._with_same_port(service, (host, port))
        for one in own:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            return listening_socket(host, port, reuse=bool(own))
        finally:
            for one in own:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
