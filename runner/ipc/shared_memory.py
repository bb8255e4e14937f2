"""Memory that a worker shares with its supervisor: counters, and the ids of the messages that handlers are processing.

A second part contains the steps of messages (see ``runner.ipc.step_memory``).

A worker updates the memory without system calls. The supervisor can read the memory even after a crash of the worker.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

from runner.ipc import step_memory
from runner.ipc.step_memory import StepMemory, StepReader

#: The environment variable with the number of the inherited file descriptor. Not set in a process that was started by
#: hand.
VARIABLE = "FASTCOMMERCE_RECORD"
#: The maximum number of handlers that one worker runs at the same time.
MAX_HANDLERS = 64

_NUMBER = struct.Struct("=Q")
_ALL = struct.Struct("=QQQ")
#: The header of an entry: the number of replays of the message, and the lengths of its queue name and id in bytes.
_LENGTHS = struct.Struct("=IHH")
#: The maximum length of an AMQP short string, such as a queue name or a message id, in bytes.
_SHORT = 255
_ENTRY = _LENGTHS.size + 2 * _SHORT
_ENTRIES_AT = 64
#: The position of the second part, which begins with a new page.
_STEPS_AT = (_ENTRIES_AT + MAX_HANDLERS * _ENTRY + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
_SIZE = _STEPS_AT + step_memory.SIZE


@dataclass(frozen=True)
class WorkerCounters:
    """The counters of a worker process since its start."""

    #: The number of messages that the worker acknowledged or rejected.
    handled: int = 0
    #: The number of confirmed events that the worker published outside of message handling.
    published: int = 0
    #: The number of unacked messages or unconfirmed events.
    in_hand: int = 0


@dataclass(frozen=True, order=True)
class CurrentMessage:
    """The queue and id of a message that a handler is processing."""

    queue: str
    id: str
    #: The number of replays from the dead-letter queue. Each replay counts as a new message.
    replays: int = 0


class SharedMemory:
    """A worker's view of the shared memory. Only one thread at a time writes each number or entry."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.steps = StepMemory(memory, _STEPS_AT)

    @classmethod
    def inherited(cls) -> SharedMemory:
        """Open the memory on the inherited file descriptor. If there is no descriptor, use private memory."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(mmap.mmap(-1, _SIZE))
        memory = mmap.mmap(int(number), _SIZE)
        os.close(int(number))
        return cls(memory)

    def handled(self, count: int) -> None:
        """Write the number of messages that this worker has acknowledged or rejected since its start."""
        _NUMBER.pack_into(self._memory, 0, count)

    def published(self, count: int) -> None:
        """Write the number of confirmed events that the worker has published outside of message handling."""
        _NUMBER.pack_into(self._memory, 8, count)

    def in_hand(self, count: int) -> None:
        """Write the current number of unacked messages or unconfirmed events."""
        _NUMBER.pack_into(self._memory, 16, count)

    def leaving(self) -> None:
        """Record that the worker is exiting voluntarily, so that no message is blamed for the exit."""
        _NUMBER.pack_into(self._memory, 24, 1)

    def take(self, handler: int, message: CurrentMessage) -> None:
        """Record that a handler, numbered from 0, starts to process a message."""
        queue, name = (_cut(text) for text in (message.queue, message.id))
        start = _ENTRIES_AT + handler * _ENTRY
        text = queue + name
        self._memory[start + _LENGTHS.size : start + _LENGTHS.size + len(text)] = text
        # The lengths are written last. If the process dies before this line, the supervisor sees an empty entry.
        _LENGTHS.pack_into(self._memory, start, message.replays, len(queue), len(name))

    def release(self, handler: int) -> None:
        """Record that a handler has finished its message."""
        _LENGTHS.pack_into(self._memory, _ENTRIES_AT + handler * _ENTRY, 0, 0, 0)


class SharedMemoryFile:
    """The supervisor's view of a worker's shared memory. The worker inherits ``descriptor``."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name)
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE, prot=mmap.PROT_READ)
        limit = mmap.mmap(self.descriptor, mmap.PAGESIZE, offset=_STEPS_AT)
        self.steps = StepReader(self._memory, _STEPS_AT, limit)

    def read(self) -> WorkerCounters:
        """Return the current counters of the worker."""
        return WorkerCounters(*_ALL.unpack_from(self._memory, 0))

    @property
    def is_leaving(self) -> bool:
        """True if the worker is exiting voluntarily."""
        return bool(_NUMBER.unpack_from(self._memory, 24)[0])

    def messages(self) -> list[CurrentMessage]:
        """Return the messages that handlers are processing. The list is reliable only after the worker has exited."""
        found = []
        for handler in range(MAX_HANDLERS):
            start = _ENTRIES_AT + handler * _ENTRY
            replays, queue, name = _LENGTHS.unpack_from(self._memory, start)
            if queue and queue <= _SHORT and name <= _SHORT:
                text = self._memory[start + _LENGTHS.size : start + _LENGTHS.size + queue + name]
                ends = text[:queue].decode("utf-8", "replace"), text[queue:].decode("utf-8", "replace")
                found.append(CurrentMessage(*ends, replays=replays))
        return found

    def close(self) -> None:
        """Close the file descriptor after the worker has inherited it.

        The supervisor can still read the memory.
        """
        os.close(self.descriptor)


def _cut(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_SHORT]
