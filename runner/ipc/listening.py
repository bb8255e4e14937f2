"""Listening sockets that several processes share, and how the last of them closes one without a reset.

Linux resets the connections that wait in a listening socket when its last descriptor is closed. Where another socket
is to have its clients from then on, as 0.0.0.0 has those of 127.0.0.1, they need not notice: the supervisor gives its
descriptor up, and whoever holds the last one has newcomers turned away, accepts those that wait, and closes it.

The filter that turns newcomers away is a workaround. It can go when Linux gives the waiting connections of a closed
socket to a socket of another address; ``net.ipv4.tcp_migrate_req`` gives them to one of the same address alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import select
import socket
import struct
from pathlib import Path

#: Connections that may wait while no instance accepts any, as during a restart.
BACKLOG = 1024
#: linux/in.h and asm-generic/socket.h; the module ``socket`` does not have them.
IP_FREEBIND = 15
SO_ATTACH_FILTER = 26
#: Drops a segment that has SYN among its flags and lets any other one pass: a program of the classic BPF as
#: ``tcpdump -dd`` writes it (linux/filter.h). A socket's filter sees a segment from its TCP header on; the flags are in
#: byte 13 of that (RFC 9293, section 3.1).
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listening_socket(host: str, port: int, *, reuse: bool = False) -> socket.socket:
    """A socket that listens on a numeric address and does not block. Raises OSError.

    Not blocking, because several processes may share it: whoever finds that another one has accepted must not wait.
    ``reuse`` lets it have a port that another socket of ours has (SO_REUSEPORT, socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=reuse)
    if reuse:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    listener.setblocking(False)
    return listener


def give_up(listener: socket.socket) -> None:
    """Mark it for all who hold it: nobody else will ask for it, and another socket is to have its clients."""
    # The mark is an option that means nothing once a socket is bound (ip(7)): whoever is told to stop sees it by then,
    # which is not sure of a message that takes another way than the signal.
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)


def is_given_up(listener: socket.socket) -> bool:
    """Whether its last holder is to have newcomers turned away before it closes it."""
    try:
        return bool(listener.getsockopt(socket.IPPROTO_IP, IP_FREEBIND))
    except OSError:
        return False


def turn_away(listener: socket.socket) -> None:
    """Have it take no connection any more but those that have begun; who comes anew is not refused.

    A client sends its SYN again after 1 s (RFC 6298, section 2), and gets the other socket if this one is closed then.
    A kernel that cannot do it is no error.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(NO_SYN), ctypes.addressof(program))
        )


def has_waiting(listener: socket.socket) -> bool:
    """Whether a connection can be accepted now."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def has_handshakes(listener: socket.socket) -> bool:
    """Whether clients are in the midst of connecting to its port: SYN_RECV, which is 03 in /proc/net/tcp (proc(5))."""
    host, port = listener.getsockname()[:2]
    if host == "::1" or host.startswith("127."):
        return False  # on loopback each step is answered in the same instant; to read the table takes longer
    table = Path("/proc/net/tcp6" if listener.family == socket.AF_INET6 else "/proc/net/tcp").read_bytes()
    return re.search(rb":%04X [0-9A-F]+:[0-9A-F]{4} 03 " % port, table) is not None
