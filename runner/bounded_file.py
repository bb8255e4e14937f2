"""Files from other programs, read with limits on their size and on the time without a new byte."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 64 * 1024


class FileTooLarge(OSError):
    """A file with more bytes than its reader allows; ``limit`` is the number of bytes allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than {limit} bytes")
        self.limit = limit

    def __reduce__(self) -> tuple[type[FileTooLarge], tuple[int]]:
        """Pickle the limit, from which the rest follows."""
        return type(self), (self.limit,)


def read_bounded(source: Path | BinaryIO, limit: int, timeout: float | None = 10.0) -> bytes:
    """Return all bytes of a file, and never read more than ``limit`` + 1 bytes.

    ``source`` is a path or an open binary stream. Opening a path never blocks, and a path may name a device or a
    pipe. ``timeout`` is the time in seconds that a pipe may stay without a new byte, or None for any time. An open
    stream has no such limit, because it may be a terminal.

    Raises FileTooLarge for a longer file, TimeoutError for a silent one, and other kinds of OSError for a file that
    cannot be read.
    """
    data = _of_path(source, limit + 1, timeout) if isinstance(source, Path) else _of_stream(source, limit + 1)
    if len(data) > limit:
        raise FileTooLarge(limit)
    return bytes(data)


def _of_path(path: Path, most: int, timeout: float | None) -> bytearray:
    data = bytearray()
    # A named pipe without a writer blocks a plain open; a terminal must not become the process's own.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(data) < most:
            # A pipe that has no writer yet reads as ended; poll waits for its first writer.
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"no byte came within {timeout:g} s")
            chunk = os.read(descriptor, min(_CHUNK_BYTES, most - len(data)))
            if not chunk:
                break
            data += chunk
    finally:
        os.close(descriptor)
    return data


def _of_stream(stream: BinaryIO, most: int) -> bytearray:
    data = bytearray()
    while len(data) < most and (chunk := stream.read(min(_CHUNK_BYTES, most - len(data)))):
        data += chunk
    return data
