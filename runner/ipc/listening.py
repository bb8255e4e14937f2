"""Listening sockets that several processes share, and that can be closed without resetting connections.

When the last file descriptor of a listening socket is closed, Linux resets the connections that no process has
accepted. These resets can be avoided if another socket serves the same clients. For example, a socket on 0.0.0.0 also
serves the clients of 127.0.0.1. The supervisor closes its descriptor of the old socket first. The process with the last
descriptor drops new connections, accepts the waiting connections, and closes the socket.

The filter that drops new connections is a workaround. Remove the filter when Linux can move the waiting connections of
a closed socket to a socket with another address. ``net.ipv4.tcp_migrate_req`` only moves connections between sockets
with the same address.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import select
import socket
import struct
from pathlib import Path

#: The maximum number of connections that can wait until an instance accepts them, for example during a restart.
BACKLOG = 1024
#: Constants from linux/in.h and asm-generic/socket.h that the ``socket`` module does not define.
IP_FREEBIND = 15
SO_ATTACH_FILTER = 26
#: A classic BPF program (linux/filter.h), in the format of ``tcpdump -dd``, that drops every segment with the SYN flag.
#: A socket's filter gets each segment without the IP header. Byte 13 of the TCP header contains the flags (RFC 9293,
#: section 3.1).
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listening_socket(host: str, port: int, *, reuse: bool = False) -> socket.socket:
    """Return a non-blocking socket that listens on a numeric address. Raises OSError.

    Several processes can share the socket, so ``accept`` must not block if another process has accepted the connection
    first. ``reuse`` allows a port on which another socket of this service listens (SO_REUSEPORT, socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=reuse)
    if reuse:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    listener.setblocking(False)
    return listener


def give_up(listener: socket.socket) -> None:
    """Mark a socket as replaced by another socket, for all processes that share the old socket."""
    # The mark is a socket option that has no effect on a bound socket (ip(7)). All processes see the option
    # immediately. A message over the lifeline could arrive after the signal to stop.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def is_given_up(listener: socket.socket) -> bool:
    """Return True if ``give_up`` has marked the socket."""
    try:
        return bool(listener.getsockopt(socket.IPPROTO_IP, IP_FREEBIND))
    except OSError:
        return False


def drop_new_connections(listener: socket.socket) -> None:
    """Ignore new connections instead of refusing them. Handshakes in progress continue.

    A client repeats its SYN after 1 s (RFC 6298, section 2). If this socket is closed by then, the SYN reaches the new
    socket. If the kernel has no socket filters, this function has no effect.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(NO_SYN), ctypes.addressof(program))
        )


def has_waiting(listener: socket.socket) -> bool:
    """Return True if a connection is waiting to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def has_handshakes(listener: socket.socket) -> bool:
    """Return True if a TCP handshake is in progress on the port (state SYN_RECV, 03 in /proc/net/tcp, proc(5))."""
    host, port = listener.getsockname()[:2]
    if host == "::1" or host.startswith("127."):
        return False  # a loopback handshake takes less time than reading the table
    table = Path("/proc/net/tcp6" if listener.family == socket.AF_INET6 else "/proc/net/tcp").read_bytes()
    return re.search(rb":%04X [0-9A-F]+:[0-9A-F]{4} 03 " % port, table) is not None
