"""A client's connection through the proxy, with its connection to the target."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import Any, Protocol

#: The number of delayed bytes from which on the sender must wait.
_MOST_WAITING = 1 << 20


class Faults(Protocol):
    """The state of a proxy that its links use."""

    loop: asyncio.AbstractEventLoop
    links: set[Link]
    #: True if bytes are dropped. The delay of each chunk in seconds. The size of a chunk in bytes, or 0 for no change.
    is_black: bool
    delay: float
    size: int

    def spend(self, count: int) -> None:
        """Count bytes before they pass."""


class _Side(asyncio.Protocol):
    """One of the two connections of a link. Its input is sent to ``other``."""

    transport: Any = None
    other: _Side

    def __init__(self, link: Link) -> None:
        self._link, self._proxy = link, link.proxy
        #: Input that has not been sent, with its due times. None marks the end.
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        #: True if this side does not read, because the other side accepts no more bytes.
        self._is_held = True
        #: True if the sender has finished.
        self.is_ended = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._proxy.spend(len(data))
        if self._link.swallows() or self.other.transport.is_closing():
            return
        if self._waiting or self._proxy.delay or self._proxy.size:
            self._wait(data)
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self._link.swallows():
            self.is_ended = True
            self._link.notify()
        else:
            self._wait(None)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._link.lost(self, error)

    def pause_writing(self) -> None:
        self.other.hold(True)

    def resume_writing(self) -> None:
        self.other.hold(False)

    def hold(self, is_held: bool) -> None:
        """Stop or resume reading."""
        self._is_held = is_held
        self._read_or_not()

    def _read_or_not(self) -> None:
        if not self.transport.is_closing():
            is_full = self._is_held or self._bytes > _MOST_WAITING
            (self.transport.pause_reading if is_full else self.transport.resume_reading)()

    def _wait(self, data: bytes | None) -> None:
        self._waiting.append((self._proxy.loop.time() + self._proxy.delay, data))
        self._bytes += len(data or b"")
        self._read_or_not()
        self._pass_on_later()

    def _pass_on_later(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._proxy.loop.call_at(self._waiting[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        if self.other.transport.is_closing() or self._link.swallows():
            return
        _, data = self._waiting.popleft()
        if data is None:
            self._end()
            return
        piece = data[: self._proxy.size] if self._proxy.size else data
        if rest := data[len(piece) :]:
            # In another turn of the loop: bytes that are written together arrive together.
            self._waiting.appendleft((0.0, rest))
        self._bytes -= len(piece)
        self.other.transport.write(piece)
        self._read_or_not()
        self._pass_on_later()

    def _end(self) -> None:
        self.is_ended = True
        with contextlib.suppress(OSError):
            self.other.transport.write_eof()
        if self.other.is_ended:
            self.transport.close()
            self.other.transport.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            _reset_at_close(self.transport.get_extra_info("socket"))
            self.transport.abort()


class Link:
    """A client's connection, with its connection to the target."""

    def __init__(self, proxy: Faults, client: socket.socket, target: tuple[str, int]) -> None:
        self.proxy = proxy
        self._near, self._far = _Side(self), _Side(self)
        self._near.other, self._far.other = self._far, self._near
        self._open_sides = 0
        self._has_swallowed = False
        self._client = client
        self._opening = proxy.loop.create_task(self._open(target))
        self._opening.add_done_callback(self._opened)

    async def _open(self, target: tuple[str, int]) -> None:
        await self.proxy.loop.create_connection(lambda: self._far, *target)
        await self.proxy.loop.connect_accepted_socket(lambda: self._near, self._client)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._open_sides = 2
            self._near.hold(False)
            self._far.hold(False)
            return
        if self._near.transport is None:
            _reset_at_close(self._client)
            self._client.close()
        self._near.reset()
        self._far.reset()
        self.proxy.links.discard(self)

    def swallows(self) -> bool:
        """Return True if this link drops bytes. After the first dropped byte the rest of the stream makes no sense."""
        self._has_swallowed |= self.proxy.is_black
        return self._has_swallowed

    def lost(self, side: _Side, error: Exception | None) -> None:
        """Handle the end of one side."""
        self._open_sides -= 1
        self.swallows()
        if self._open_sides == 0:
            self.proxy.links.discard(self)
        elif self._has_swallowed:
            self.notify()
        elif error is not None:
            side.other.reset()

    def notify(self) -> None:
        """Reset a side that never noticed the end of the other side, as the response to its next packet would."""
        is_half = self._open_sides == 1 or self._near.is_ended or self._far.is_ended
        if is_half and self._has_swallowed and not self.proxy.is_black:
            self.reset()

    def reset(self) -> None:
        """Close both sides with RST."""
        self._opening.cancel()
        self._near.reset()
        self._far.reset()


def _reset_at_close(one: Any) -> None:
    """Make the socket send RST instead of FIN when it is closed (socket(7), SO_LINGER)."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
