"""Messages in whose hands workers died: the supervisor's list, which all workers of a service read in memory.

Live and not handed over at a start, because the next to get such a message may be a worker that has been running all
the time.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from runner.ipc.shared_memory import CurrentMessage

#: Names the inherited file descriptor.
VARIABLE = "FASTCOMMERCE_SUSPECTS"
#: How many are remembered; the one that was not heard of for longest makes room.
MOST = 64

#: More than so many of the longest need; what is not written takes no memory.
_SIZE = 1024 * 1024
#: Counts the writings: odd while one is under way. Then the length of what follows.
_HEAD = struct.Struct("=QQ")


@dataclass(frozen=True)
class CrashingMessage:
    """A message that was in hand when a worker of its service died."""

    queue: str
    id: str
    #: How many workers died with it alone in hand, by a fault; and how many were killed by somebody, or died with other
    #: messages in hand too, which says little of it.
    crashes: int
    kills: int
    shared: int
    #: How the last one ended, in words, and its signal's name, empty where it had none.
    reason: str
    signal: str = ""
    replays: int = 0

    @property
    def message(self) -> CurrentMessage:
        """What it is in a hand."""
        return CurrentMessage(self.queue, self.id, self.replays)

    @property
    def deaths(self) -> int:
        """Deaths that speak against it: those with it alone in hand, and every fourth that came from outside."""
        return self.crashes + self.kills // 4

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be handled alone."""
        return bool(self.deaths or self.shared)

    @property
    def total(self) -> int:
        """All deaths with it in hand."""
        return self.crashes + self.kills + self.shared

    @property
    def times(self) -> str:
        """How often a worker died with it, in words."""
        return {1: "once", 2: "twice"}.get(self.total, f"{self.total} times")


class CrashingMessages:
    """The worker's side."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        self._version = 0
        self._known: dict[CurrentMessage, CrashingMessage] = {}

    @classmethod
    def inherited(cls) -> CrashingMessages:
        """Take over the descriptor named in the environment; without one nobody is suspect."""
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return cls(None)
        memory = mmap.mmap(int(number), _SIZE, prot=mmap.PROT_READ)
        os.close(int(number))
        return cls(memory)

    def get(self, message: CurrentMessage) -> CrashingMessage | None:
        """What is known against a message; costs a look at one number while there is nothing."""
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
            return None  # it is just being written
        return {one.message: one for one in (CrashingMessage(**fields) for fields in json.loads(text))}


class CrashingMessagesFile:
    """The supervisor's side: hands ``descriptor`` to each process of one service, and writes."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(f"{name} suspects")
        os.ftruncate(self.descriptor, _SIZE)
        self._memory = mmap.mmap(self.descriptor, _SIZE)

    def write(self, suspects: Sequence[CrashingMessage]) -> None:
        """These and no others are suspect now."""
        text = json.dumps([asdict(one) for one in suspects[-MOST:]]).encode()
        version, _ = _HEAD.unpack_from(self._memory, 0)
        _HEAD.pack_into(self._memory, 0, version + 1, 0)
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, 0, version + 2, len(text))

    def close(self) -> None:
        """The service is no more."""
        self._memory.close()
        os.close(self.descriptor)
