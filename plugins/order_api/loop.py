"""The loop that waits for sockets: epoll, which costs next to nothing for those that are silent.

waitress's own loop asks every connection before each wait what it waits for, and tells the kernel anew. Here a
connection is asked when that may have changed. Only the listening socket is waited for with poll: epoll wakes the
processes that share one in the same order for ever, so that the first of them would get nearly all connections.
"""

from __future__ import annotations

import contextlib
import math
import select
from collections.abc import MutableMapping
from typing import Any

from waitress import wasyncore

#: Not EPOLLPRI: an urgent byte (RFC 6093), which nobody here reads, would be told again and again.
_READ = select.EPOLLIN


class Loop:
    """Waits for the sockets in ``sockets``, by descriptor; waitress keeps them there."""

    def __init__(self, sockets: MutableMapping[int, Any]) -> None:
        self._sockets = sockets
        self._epoll, self._poll = select.epoll(), select.poll()
        self._poll.register(self._epoll.fileno(), select.POLLIN)
        #: What the kernel was told to wait for.
        self._asked: dict[int, int] = {}
        #: Those that may wait for something else by now.
        self._watched: set[Any] = set()

    def watch(self, one: wasyncore.dispatcher) -> None:
        """Ask ``one`` before each wait what it waits for, until that is a next request and nothing else."""
        self._watched.add(one)

    def watch_all(self) -> None:
        """Ask each of them, as after any of them may have changed."""
        self._watched.update(self._sockets.values())

    def forget(self, descriptor: int) -> None:
        """Wait for it no more; called before it is closed."""
        # Closing is not enough: the supervisor has the same listening socket, so the kernel would go on to tell of it.
        if self._asked.pop(descriptor, 0):
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)

    def prepare(self) -> None:
        """Tell the kernel what has changed."""
        for one in tuple(self._watched):
            self._ask(one)

    def turn(self, seconds: float) -> None:
        """Wait for at most so many seconds, and let each socket do what it can."""
        for descriptor, flags in self._poll.poll(math.ceil(seconds * 1000)):
            if descriptor != self._epoll.fileno():
                self._do(descriptor, flags)
                continue
            for ready, its_flags in self._epoll.poll(0):
                self._do(ready, its_flags)

    def _do(self, descriptor: int, flags: int) -> None:
        one = self._sockets.get(descriptor)
        if one is None:
            return
        if one.readable():
            wasyncore.readwrite(one, flags)
            return
        # It has a request in hand, and sends more or is gone: looked at when that one is answered.
        self._ask(one)
        if self._asked.get(descriptor):
            wasyncore.readwrite(one, flags & ~_READ)

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()

    def _ask(self, one: wasyncore.dispatcher) -> None:
        descriptor = one._fileno
        if descriptor not in self._sockets or self._sockets[descriptor] is not one:
            self._watched.discard(one)
            return
        wanted = _READ if one.readable() else 0
        if one.writable() and not one.accepting:
            wanted |= select.EPOLLOUT
        asked = self._asked.get(descriptor, 0)
        if wanted != asked:
            poll = self._poll if one.accepting else self._epoll
            if not asked:
                poll.register(descriptor, wanted)
            elif wanted:
                poll.modify(descriptor, wanted)
            else:
                # Without it the end of a connection would be told again and again.
                poll.unregister(descriptor)
            self._asked[descriptor] = wanted
        if wanted == _READ and not one.accepting:
            self._watched.discard(one)
        else:
            self._watched.add(one)
