"""A few counters in memory that a worker shares with its supervisor: written without a call, read when asked for."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

#: Names the inherited file descriptor; absent when a person started the process by hand.
VARIABLE = "FASTCOMMERCE_RECORD"

_SIZE = mmap.PAGESIZE
_NUMBER = struct.Struct("=Q")
_ALL = struct.Struct("=QQQ")


@dataclass(frozen=True)
class Counts:
    """What one worker process did since it began."""

    #: Messages that were answered, and events of a service's own that the broker confirmed.
    handled: int = 0
    published: int = 0
    #: Messages that were delivered and are not answered yet, or events that are not confirmed yet.
    in_hand: int = 0


class Record:
    """The worker's side; each number is written by one thread at a time."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def inherited(cls) -> Record:
        """Take over the descriptor named in the environment; without one nobody reads."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(mmap.mmap(-1, _SIZE))
        memory = mmap.mmap(int(number), _SIZE)
        os.close(int(number))
        return cls(memory)

    def handled(self, count: int) -> None:
        """So many messages were answered since the start."""
        _NUMBER.pack_into(self._memory, 0, count)

    def published(self, count: int) -> None:
        """So many events of the service's own were confirmed since the start."""
        _NUMBER.pack_into(self._memory, 8, count)

    def in_hand(self, count: int) -> None:
        """So many are at work now."""
        _NUMBER.pack_into(self._memory, 16, count)


class RecordFile:
    """The supervisor's side: hands ``descriptor`` to the process, and reads."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name)
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE, prot=mmap.PROT_READ)

    def read(self) -> Counts:
        """The counts of this moment."""
        return Counts(*_ALL.unpack_from(self._memory, 0))

    def close(self) -> None:
        """The process has its descriptor: close ours, and go on reading."""
        os.close(self.descriptor)
