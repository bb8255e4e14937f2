"""The reading of files from other programs, with limits on the size and on the time without a new byte."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 64 * 1024


class FileTooLarge(OSError):
    """A file has more bytes than allowed. ``limit`` is the number of allowed bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than {limit} bytes")
        self.limit = limit

    def __reduce__(self) -> tuple[type[FileTooLarge], tuple[int]]:
        """Pickle the argument of the constructor, so that another process gets the same error."""
        return type(self), (self.limit,)


def read_bounded(source: Path | BinaryIO, limit: int, timeout: float | None = 10.0) -> bytes:
    """Return all bytes of a file of at most ``limit`` bytes. A larger file is not read to its end.

    ``source`` is a path or an open binary stream. A path may name a device or a pipe, and opening it never blocks.
    ``timeout`` is the longest time in seconds without a new byte, or None for no limit. It does not apply to an open
    stream, which may be a terminal.

    Raises FileTooLarge for a larger file, TimeoutError after ``timeout``, and other kinds of OSError for a file that
    cannot be read.
    """
    data = _of_path(source, limit + 1, timeout) if isinstance(source, Path) else _of_stream(source, limit + 1)
    if len(data) > limit:
        raise FileTooLarge(limit)
    return bytes(data)


def _of_path(path: Path, most: int, timeout: float | None) -> bytearray:
    data = bytearray()
    # Without these flags, a named pipe without a writer would block, and a terminal would control this process.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(data) < most:
            # A read from a pipe without a writer returns end-of-file. ``poll`` waits for the first writer.
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"no byte arrived within {timeout:g} s")
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
