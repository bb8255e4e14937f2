"""The list of crashing messages that the supervisor shares with all workers of a service.

Even running workers read the list, because the broker can deliver a crashing message to any worker.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from runner.ipc.shared_memory import CurrentMessage

#: The environment variable with the number of the inherited file descriptor.
VARIABLE = "FASTCOMMERCE_CRASHING_MESSAGES"
#: The maximum number of crashing messages in the list. The message with the oldest crash is removed first.
MOST = 64

#: The size of the shared memory in bytes, enough for the 64 longest entries. Unwritten pages use no memory.
_SIZE = 1024 * 1024
#: The version of the list, which is odd during a write, and the length of the JSON text that follows.
_HEAD = struct.Struct("=QQ")


@dataclass(frozen=True)
class CrashingMessage:
    """A message that a worker was handling when the worker died."""

    queue: str
    id: str
    #: The number of workers that crashed while they handled only this message.
    crashes: int
    #: The number of workers that another process killed. A kill from outside is weak evidence against the message.
    kills: int
    #: The number of workers that crashed while they handled several messages. Such a crash is weak evidence against
    #: each of the messages.
    shared: int
    #: A description of the last worker's exit.
    reason: str
    #: The name of the signal that killed the last worker, or an empty text if no signal did.
    signal: str = ""
    #: The number of times the message was replayed.
    replays: int = 0

    @property
    def message(self) -> CurrentMessage:
        """The key of the message, as in a worker's shared memory."""
        return CurrentMessage(self.queue, self.id, self.replays)

    @property
    def deaths(self) -> int:
        """The number of deaths that count: every crash with this message alone, and every fourth kill from outside."""
        return self.crashes + self.kills // 4

    @property
    def needs_isolation(self) -> bool:
        """True if a worker must handle this message alone."""
        return bool(self.deaths or self.shared)

    @property
    def total(self) -> int:
        """The total number of workers that died while they handled this message."""
        return self.crashes + self.kills + self.shared

    @property
    def times(self) -> str:
        """The number of deaths in words, such as "twice"."""
        return {1: "once", 2: "twice"}.get(self.total, f"{self.total} times")


class CrashingMessages:
    """A worker's read-only view of the list of crashing messages."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        self._version = 0
        self._known: dict[CurrentMessage, CrashingMessage] = {}

    @classmethod
    def inherited(cls) -> CrashingMessages:
        """Open the list on the inherited file descriptor. If there is no descriptor, the list is empty."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(None)
        memory = mmap.mmap(int(number), _SIZE, prot=mmap.PROT_READ)
        os.close(int(number))
        return cls(memory)

    def get(self, message: CurrentMessage) -> CrashingMessage | None:
        """Return the entry of a message, or None if the message is not in the list.

        If the list has not changed, a lookup reads only the version number.
        """
        if self._memory is None:
            return None
        while (version := _HEAD.unpack_from(self._memory, 0)[0]) != self._version:
            known = self._read(version)
            if known is not None:
                self._known = known
                self._version = version
        return self._known.get(message)

    def _read(self, version: int) -> dict[CurrentMessage, CrashingMessage] | None:
        assert self._memory is not None  # noqa: S101 - for the type checker: the caller checked it
        _, length = _HEAD.unpack_from(self._memory, 0)
        text = self._memory[_HEAD.size : _HEAD.size + min(length, _SIZE - _HEAD.size)]
        if version % 2 or _HEAD.unpack_from(self._memory, 0)[0] != version:
            return None  # the supervisor is writing the list
        return {one.message: one for one in (CrashingMessage(**fields) for fields in json.loads(text))}


class CrashingMessagesFile:
    """The supervisor's writable view of the list of crashing messages.

    Each process of the service inherits ``descriptor``.
    """

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(f"{name} crashing messages")
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE)

    def write(self, messages: Sequence[CrashingMessage]) -> None:
        """Replace the list with the last ``MOST`` of the given messages."""
        text = json.dumps([asdict(one) for one in messages[-MOST:]]).encode()
        version, _ = _HEAD.unpack_from(self._memory, 0)
        _HEAD.pack_into(self._memory, 0, version + 1, 0)
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, 0, version + 2, len(text))

    def close(self) -> None:
        """Release the shared memory when the service is removed."""
        self._memory.close()
        os.close(self.descriptor)
