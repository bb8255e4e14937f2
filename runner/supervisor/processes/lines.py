"""Read lines from a child's pipe or socket as they come, without ever waiting for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

#: A longer line is cut into pieces of this many bytes.
MAX_LINE = 64 * 1024
#: How many pieces are read at once, so that one child that floods leaves time for the others.
MAX_READS = 16


class LineSplitter:
    """Bytes in whatever pieces they come to whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with ``data``."""
        *whole, rest = (self._rest + data).split(b"\n")
        lines = []
        for line in whole:
            lines += _pieces(line.rstrip(b"\r")) or [b""]
        *full, self._rest = _pieces(rest) or [b""]
        return lines + full

    def rest(self) -> list[bytes]:
        """What came after the last line's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]


class LineReader:
    """Calls ``on_lines`` with what lines come from a descriptor, which it takes over and closes at the end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, on_lines: Callable[[Sequence[bytes]], None]
    ) -> None:
        self._loop, self._descriptor, self._on_lines = loop, descriptor, on_lines
        self._splitter = LineSplitter()
        self._is_open = True
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._read)

    def finish(self, grace: float) -> None:
        """The child has ended: take what is there, wait at most ``grace`` seconds for the rest, and close.

        A grandchild that escaped may hold the other end open for ever.
        """
        self._read()
        if not grace:
            self.close()
        elif self._is_open:
            self._loop.call_later(grace, self.close)

    def close(self) -> None:
        """Stop reading; a last line without an end counts as one."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._deliver(self._splitter.rest())

    def _read(self) -> None:
        for _ in range(MAX_READS):
            if not self._is_open:
                return
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._deliver(self._splitter.feed(data))
            else:
                self.close()

    def _deliver(self, lines: list[bytes]) -> None:
        if lines:
            self._on_lines(lines)
