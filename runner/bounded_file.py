"""A reader for files from other programs, with a size limit and a timeout."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 64 * 1024


class FileTooLarge(OSError):
    """An error for a file with more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than {limit} bytes")
        self.limit = limit

    def __reduce__(self) -> tuple[type[FileTooLarge], tuple[int]]:
        """Pickle the constructor's argument, so that another process can recreate the error."""
        return type(self), (self.limit,)


def read_bounded(source: Path | BinaryIO, limit: int, timeout: float | None = 10.0) -> bytes:
    """Return the content of a file with at most ``limit`` bytes.

    ``source`` is a path or an open binary stream. A path may name a device or a pipe, because opening the path never
    blocks. ``timeout`` is the maximum number of seconds without new data, or None for no limit. The timeout does not
    apply to an open stream, which may be a terminal.

    Raises FileTooLarge for a larger file, without reading the whole file. Raises TimeoutError after the timeout, and
    OSError if the file cannot be read.
    """
    data = _of_path(source, limit + 1, timeout) if isinstance(source, Path) else _of_stream(source, limit + 1)
    if len(data) > limit:
        raise FileTooLarge(limit)
    return bytes(data)


def _of_path(path: Path, most: int, timeout: float | None) -> bytearray:
    data = bytearray()
    # Otherwise, opening a pipe without a writer would block, and a terminal could become the controlling terminal.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(data) < most:
            # Reading a pipe without a writer would return end-of-file, whereas ``poll`` waits for the first writer.
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"no data arrived within {timeout:g} s")
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
