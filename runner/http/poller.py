"""The poller of the event loop, which waits for sockets with epoll, so that idle sockets cost almost nothing.

The poller asks a connection for its events only after a possible change, not before each wait. For the listening
socket, the poller uses poll(2), because epoll always wakes the processes that share a socket in the same order. With
epoll, the first process would get nearly all connections.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from typing import Protocol

#: The flags do not include EPOLLPRI. Urgent bytes (RFC 6093) are never read, so they would be reported repeatedly.
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Pollable(Protocol):
    """A socket that the event loop waits for."""

    is_listening: bool

    @property
    def descriptor(self) -> int:
        """The descriptor of the open socket."""

    def wanted(self) -> int:
        """Return the events that the socket waits for, which are READ, WRITE, both or 0."""

    def act(self, flags: int) -> None:
        """Read or write, as the poll(2) flags allow."""


class Poller:
    """A poller that waits for sockets on one thread. Any thread can end the wait with ``wake``."""

    def __init__(self) -> None:
        self._sockets: dict[int, Pollable] = {}
        self._epoll, self._poll = select.epoll(), select.poll()
        self._poll.register(self._epoll.fileno(), select.POLLIN)
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, READ)
        self._waking = threading.Lock()
        self._is_asleep = self._is_closed = False
        #: The events that the kernel waits for, by descriptor.
        self._asked: dict[int, int] = {}
        #: The sockets whose events may have changed.
        self._watched: set[Pollable] = set()

    def add(self, one: Pollable) -> None:
        """Add a socket to wait for."""
        self._sockets[one.descriptor] = one
        self._watched.add(one)

    def watch(self, one: Pollable) -> None:
        """Ask a socket for its events before each wait, until the socket waits only for its next request."""
        self._watched.add(one)

    def watch_all(self) -> None:
        """Ask each socket for its events before the next wait."""
        self._watched.update(self._sockets.values())

    def forget(self, descriptor: int) -> None:
        """Remove a socket. Call this method before the socket is closed."""
        self._sockets.pop(descriptor, None)
        # Closing the socket is not enough. The supervisor has the same listening socket, so the kernel would still
        # report the socket's events.
        if self._asked.pop(descriptor, 0):
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)

    def fall_asleep(self) -> None:
        """Make ``wake`` end the next wait. Call this method before the last check for work."""
        self._is_asleep = True

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds`` for sockets, and let each ready socket read or write."""
        for one in tuple(self._watched):
            self._ask(one)
        for descriptor, flags in self._poll.poll(math.ceil(seconds * 1000)):
            if descriptor != self._epoll.fileno():
                self._act(descriptor, flags)
                continue
            for ready, its_flags in self._epoll.poll(0):
                if ready == self._alarm:
                    os.eventfd_read(ready)
                else:
                    self._act(ready, its_flags)
        self._is_asleep = False

    def wake(self) -> None:
        """End the current wait, if any. Any thread may call this method, even after ``close``."""
        if self._is_asleep:
            with self._waking:
                if self._is_asleep and not self._is_closed:
                    self._is_asleep = False
                    os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        """Close the descriptors."""
        with self._waking:
            # A late confirm may call ``wake`` when the descriptor's number already belongs to another file.
            self._is_closed = True
            os.close(self._alarm)
        self._epoll.close()

    def _act(self, descriptor: int, flags: int) -> None:
        one = self._sockets.get(descriptor)
        if one is None:
            return
        if one.wanted() & READ:
            one.act(flags)
            return
        # The client of an unanswered request has sent more data or has closed the connection. Both events are handled
        # after the response.
        self._ask(one)
        if self._asked.get(descriptor):
            one.act(flags & ~READ)

    def _ask(self, one: Pollable) -> None:
        descriptor = one.descriptor
        if self._sockets.get(descriptor) is not one:
            self._watched.discard(one)
            return
        wanted = one.wanted()
        asked = self._asked.get(descriptor, 0)
        if wanted != asked:
            poll = self._poll if one.is_listening else self._epoll
            if not asked:
                poll.register(descriptor, wanted)
            elif wanted:
                poll.modify(descriptor, wanted)
            else:
                # Otherwise, the kernel would report the end of a connection repeatedly.
                poll.unregister(descriptor)
            self._asked[descriptor] = wanted
        if wanted == READ and not one.is_listening:
            self._watched.discard(one)
        else:
            self._watched.add(one)
