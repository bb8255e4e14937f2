"""The loop's wait for sockets: epoll, which costs next to nothing for those that are silent.

A connection is asked what it waits for when that may have changed, and not before each wait. Only the listening socket
is waited for with poll: epoll wakes the processes that share one in the same order for ever, so that the first of them
would get nearly all connections.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from typing import Protocol

#: Not EPOLLPRI: an urgent byte (RFC 6093), which is not read here, would be reported again and again.
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Pollable(Protocol):
    """A socket that the loop waits for."""

    is_listening: bool

    @property
    def descriptor(self) -> int:
        """Its descriptor while it is open."""

    def wanted(self) -> int:
        """What it waits for: READ, WRITE, both or 0."""

    def act(self, flags: int) -> None:
        """Do what these flags of poll(2) allow."""


class Poller:
    """Waits for sockets, on one thread; ``wake`` ends a wait from any thread."""

    def __init__(self) -> None:
        self._sockets: dict[int, Pollable] = {}
        self._epoll, self._poll = select.epoll(), select.poll()
        self._poll.register(self._epoll.fileno(), select.POLLIN)
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, READ)
        self._waking = threading.Lock()
        self._is_asleep = self._is_closed = False
        #: What the kernel waits for.
        self._asked: dict[int, int] = {}
        #: Those that may wait for something else by now.
        self._watched: set[Pollable] = set()

    def add(self, one: Pollable) -> None:
        """Wait for a new socket."""
        self._sockets[one.descriptor] = one
        self._watched.add(one)

    def watch(self, one: Pollable) -> None:
        """Ask ``one`` before each wait what it waits for, until that is a next request and nothing else."""
        self._watched.add(one)

    def watch_all(self) -> None:
        """Ask each of them, as after any of them may have changed."""
        self._watched.update(self._sockets.values())

    def forget(self, descriptor: int) -> None:
        """Wait for a socket no more; called before it is closed."""
        self._sockets.pop(descriptor, None)
        # Closing is not enough: the supervisor has the same listening socket, so the kernel would go on to report it.
        if self._asked.pop(descriptor, 0):
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)

    def fall_asleep(self) -> None:
        """From here on ``wake`` ends the next wait; called before the last look at what there is to do."""
        self._is_asleep = True

    def wait(self, seconds: float) -> None:
        """Wait for at most so many seconds, and let each socket do what it can."""
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
        """End the wait, unless there is none; from any thread, also after the end."""
        if self._is_asleep:
            with self._waking:
                if self._is_asleep and not self._is_closed:
                    self._is_asleep = False
                    os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        """Give the descriptors back."""
        with self._waking:
            # They may belong to something else when a late confirm comes.
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
        # It has an unanswered request, and sends more or is gone: that is handled after the answer.
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
                # Without it the end of a connection would be reported again and again.
                poll.unregister(descriptor)
            self._asked[descriptor] = wanted
        if wanted == READ and not one.is_listening:
            self._watched.discard(one)
        else:
            self._watched.add(one)
