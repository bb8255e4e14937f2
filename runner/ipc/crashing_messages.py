"""The list of a service's crashing messages, which the supervisor shares with all workers of the service.

Running workers read the list too, because the broker may deliver a crashing message to any worker.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from runner.ipc.shared_memory import CurrentMessage

#: The environment variable that contains the inherited file descriptor.
VARIABLE = "FASTCOMMERCE_CRASHING_MESSAGES"
#: The maximum number of remembered messages. The message with the oldest crash is forgotten first.
MOST = 64

#: The size in bytes, which is more than the 64 longest entries need. Pages that are never written use no memory.
_SIZE = 1024 * 1024
#: The number of writes, odd during a write, and the length of the JSON text that follows.
_HEAD = struct.Struct("=QQ")


@dataclass(frozen=True)
class CrashingMessage:
    """A message that was being handled when a worker of its service died."""

    queue: str
    id: str
    #: Workers that crashed while they handled this message alone.
    crashes: int
    #: Workers that were killed from outside, which proves little about the message.
    kills: int
    #: Workers that crashed while they handled other messages too, which proves little about the message.
    shared: int
    #: A text that describes how the last worker ended.
    reason: str
    #: The name of the signal that ended the last worker. Empty if the worker did not die by a signal.
    signal: str = ""
    #: The number of times the message was replayed.
    replays: int = 0

    @property
    def message(self) -> CurrentMessage:
        """The message in the form that a worker's shared memory uses."""
        return CurrentMessage(self.queue, self.id, self.replays)

    @property
    def deaths(self) -> int:
        """The number of relevant deaths: each crash with this message alone, and every fourth kill from outside."""
        return self.crashes + self.kills // 4

    @property
    def needs_isolation(self) -> bool:
        """True if no other message may be handled at the same time."""
        return bool(self.deaths or self.shared)

    @property
    def total(self) -> int:
        """The number of all workers that died while they handled this message."""
        return self.crashes + self.kills + self.shared

    @property
    def times(self) -> str:
        """A text for the total."""
        return {1: "once", 2: "twice"}.get(self.total, f"{self.total} times")


class CrashingMessages:
    """A worker's view of the list."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        self._version = 0
        self._known: dict[CurrentMessage, CrashingMessage] = {}

    @classmethod
    def inherited(cls) -> CrashingMessages:
        """Return the list behind the inherited descriptor. Without a descriptor, the list is empty."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(None)
        memory = mmap.mmap(int(number), _SIZE, prot=mmap.PROT_READ)
        os.close(int(number))
        return cls(memory)

    def get(self, message: CurrentMessage) -> CrashingMessage | None:
        """Return the crashes of a message, or None. While the list is unchanged, a lookup reads a single number."""
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
    """The supervisor's view of the list. Each process of the service inherits ``descriptor``."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(f"{name} crashing messages")
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE)

    def write(self, messages: Sequence[CrashingMessage]) -> None:
        """Replace the list with the last ``MOST`` of these messages."""
        text = json.dumps([asdict(one) for one in messages[-MOST:]]).encode()
        version, _ = _HEAD.unpack_from(self._memory, 0)
        _HEAD.pack_into(self._memory, 0, version + 1, 0)
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, 0, version + 2, len(text))

    def close(self) -> None:
        """Release the memory after the service was removed."""
        self._memory.close()
        os.close(self.descriptor)
