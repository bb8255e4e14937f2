"""Memory that a worker shares with its supervisor: counters, and the messages its handlers are at.

Written without a call, read when asked for, and still there when the process that wrote it has crashed.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

#: Names the inherited file descriptor; absent when a person started the process by hand.
VARIABLE = "FASTCOMMERCE_RECORD"
#: As many handlers as one process may have.
HANDS = 64

_NUMBER = struct.Struct("=Q")
_ALL = struct.Struct("=QQQ")
#: The replays, and the bytes of a hand's queue name and message id: AMQP's short strings, of at most 255 bytes each.
_LENGTHS = struct.Struct("=IHH")
_SHORT = 255
_HAND = _LENGTHS.size + 2 * _SHORT
_HANDS_AT = 64
_SIZE = _HANDS_AT + HANDS * _HAND


@dataclass(frozen=True)
class WorkerCounters:
    """What one worker process did since it began."""

    #: Messages that were answered, and events of a service's own that the broker confirmed.
    handled: int = 0
    published: int = 0
    #: Messages that were delivered and are not answered yet, or events that are not confirmed yet.
    in_hand: int = 0


@dataclass(frozen=True, order=True)
class CurrentMessage:
    """A message that a handler was at."""

    queue: str
    id: str
    #: How often it was replayed from its dead-letter queue: each time it is tried like a new one.
    replays: int = 0


class SharedMemory:
    """The worker's side; each number, and each hand, is written by one thread at a time."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def inherited(cls) -> SharedMemory:
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

    def leaving(self) -> None:
        """The worker itself has decided to end; whatever is in hand is not to blame."""
        _NUMBER.pack_into(self._memory, 24, 1)

    def take(self, hand: int, message: CurrentMessage) -> None:
        """A handler, by its number from 0, begins with a message."""
        queue, name = (_cut(text) for text in (message.queue, message.id))
        start = _HANDS_AT + hand * _HAND
        text = queue + name
        self._memory[start + _LENGTHS.size : start + _LENGTHS.size + len(text)] = text
        # Last, so that a process that ends in between has nothing in this hand.
        _LENGTHS.pack_into(self._memory, start, message.replays, len(queue), len(name))

    def release(self, hand: int) -> None:
        """The handler is through with it."""
        _LENGTHS.pack_into(self._memory, _HANDS_AT + hand * _HAND, 0, 0, 0)


class SharedMemoryFile:
    """The supervisor's side: hands ``descriptor`` to the process, and reads."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name)
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE, prot=mmap.PROT_READ)

    def read(self) -> WorkerCounters:
        """The counts of this moment."""
        return WorkerCounters(*_ALL.unpack_from(self._memory, 0))

    @property
    def is_leaving(self) -> bool:
        """Whether it has decided itself to end."""
        return bool(_NUMBER.unpack_from(self._memory, 24)[0])

    def messages(self) -> list[CurrentMessage]:
        """What handlers were at; exact once the process has ended."""
        found = []
        for hand in range(HANDS):
            start = _HANDS_AT + hand * _HAND
            replays, queue, name = _LENGTHS.unpack_from(self._memory, start)
            if queue and queue <= _SHORT and name <= _SHORT:
                text = self._memory[start + _LENGTHS.size : start + _LENGTHS.size + queue + name]
                ends = text[:queue].decode("utf-8", "replace"), text[queue:].decode("utf-8", "replace")
                found.append(CurrentMessage(*ends, replays=replays))
        return found

    def close(self) -> None:
        """The process has its descriptor: close ours, and go on reading."""
        os.close(self.descriptor)


def _cut(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_SHORT]
