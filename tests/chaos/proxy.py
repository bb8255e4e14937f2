"""A TCP proxy that can cut, silence, delay and split the bytes that pass through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.chaos.link import Link

T = TypeVar("T")

HOST = "127.0.0.1"
#: Seconds for one action of the proxy's thread.
_PATIENCE = 30.0


class Proxy:
    """A proxy for several targets, each with its own port on 127.0.0.1. It runs on its own thread.

    Each fault ends after its ``seconds`` or at ``heal``. A later fault replaces an earlier one of the same kind, and
    different kinds combine. All methods may be called from any thread, and their effect is complete when they return.
    If a target does not respond, the proxy resets the client.
    """

    def __init__(self, targets: Sequence[tuple[str, int]], ports: Sequence[int] | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.links: set[Link] = set()
        #: True if bytes are dropped. The delay of each chunk in seconds. The size of a chunk in bytes, or 0 for no
        #: change.
        self.is_black, self.delay, self.size = False, 0.0, 0
        #: The number of bytes, in both directions together, after which all bytes are dropped; None for no limit.
        self._budget: int | None = None
        # These sockets keep the ports while the proxy does not listen: a port that is only bound refuses connections.
        self._bound = [_bind(port) for port in ports or [0] * len(targets)]
        #: The ports of the proxy, in the order of the targets.
        self.ports: list[int] = [one.getsockname()[1] for one in self._bound]
        self._targets = dict(zip(self.ports, targets, strict=True))
        self._listeners: list[socket.socket] = []
        self._ends: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)

    def cut(self, seconds: float) -> None:
        """Reset all connections, and refuse new ones."""
        self._do(self._begin, seconds, self._cut, self._listen)

    def blackhole(self, seconds: float) -> None:
        """Drop all bytes silently. Connections stay open, and new ones are accepted.

        A connection that has lost bytes stays silent after the fault, as if a firewall had forgotten it, because no
        network leaves a hole in a stream. At the end of the fault, sides that missed the end of the other side are
        reset.
        """
        self._do(self._begin, seconds, self._blacken, self._brighten)

    def blackhole_after(self, count: int) -> None:
        """Let ``count`` more bytes pass, in both directions together; drop all later ones until ``heal``."""
        self._do(setattr, self, "_budget", count)

    def spend(self, count: int) -> None:
        """Count bytes before they pass. Only links call this."""
        if self._budget is not None:
            self._budget -= count
            self.is_black |= self._budget < 0

    def slow(self, delay: float, seconds: float) -> None:
        """Delay each chunk by ``delay`` seconds, in both directions."""
        self._do(self._begin, seconds, lambda: setattr(self, "delay", delay), self._quicken)

    def slice(self, seconds: float, size: int = 5) -> None:
        """Pass on at most ``size`` bytes at a time."""
        self._do(self._begin, seconds, lambda: setattr(self, "size", size), self._join)

    def heal(self) -> None:
        """End all faults."""
        self._do(self._heal)

    @property
    def connections(self) -> int:
        """Return the number of connected clients."""
        return self._do(lambda: len(self.links))

    def close(self) -> None:
        """Reset all connections and stop. A second call does nothing."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(_PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)
        self.loop.close()
        for one in self._bound:
            one.close()

    def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        async def do() -> T:
            return work(*arguments)

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(_PATIENCE)

    def _begin(self, seconds: float, begin: Callable[[], None], end: Callable[[], None]) -> None:
        if end in self._ends:
            self._ends.pop(end).cancel()
        begin()
        self._ends[end] = self.loop.call_later(seconds, self._finish, end)

    def _finish(self, end: Callable[[], None]) -> None:
        self._ends.pop(end).cancel()
        end()

    def _heal(self) -> None:
        if self._budget is not None:
            self._budget = None
            self._brighten()
        for end in list(self._ends):
            self._finish(end)

    def _listen(self) -> None:
        self._listeners = [_bind(port) for port in self.ports]
        for one, target in zip(self._listeners, self._targets.values(), strict=True):
            one.listen(1024)
            self.loop.add_reader(one, self._accept, one, target)

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            # One client per turn, so that other tasks also run during an endless series of clients.
            for _ in range(16):
                client = listener.accept()[0]
                client.setblocking(False)
                self.links.add(Link(self, client, target))

    def _cut(self) -> None:
        for one in self._listeners:
            self.loop.remove_reader(one)
            one.close()
        self._listeners = []
        for link in list(self.links):
            link.reset()

    def _blacken(self) -> None:
        self.is_black = True

    def _brighten(self) -> None:
        self.is_black = False
        for link in list(self.links):
            link.notify()

    def _quicken(self) -> None:
        self.delay = 0.0

    def _join(self) -> None:
        self.size = 0

    async def _close(self) -> None:
        for timer in self._ends.values():
            timer.cancel()
        self._cut()
        while self.links:
            await asyncio.sleep(0.001)


def _bind(port: int) -> socket.socket:
    """Bind a port that another socket of this process may also have (socket(7), SO_REUSEPORT)."""
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.setblocking(False)
        one.bind((HOST, port))
    except BaseException:
        one.close()
        raise
    return one
