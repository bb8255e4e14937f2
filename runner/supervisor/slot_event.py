"""The events that change the state of a slot. The ``step`` function handles the events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """A request to run a process in the slot."""


@dataclass(frozen=True)
class Stop:
    """A request to stop the slot's process."""


@dataclass(frozen=True)
class Go:
    """The slot no longer needs to wait, so its process can start."""


@dataclass(frozen=True)
class Spawned:
    """The process was created."""

    pid: int


@dataclass(frozen=True)
class SpawnFailed:
    """The process could not be started. ``draw`` is a random number from 0 to 1."""

    reason: str
    draw: float


@dataclass(frozen=True)
class Ready:
    """The process sent READY=1."""


@dataclass(frozen=True)
class WatchdogPing:
    """The process sent WATCHDOG=1."""


@dataclass(frozen=True)
class WatchdogTrigger:
    """The process sent WATCHDOG=trigger, because a check in the process has found that the process hangs."""

    reason: str


@dataclass(frozen=True)
class MemoryExceeded:
    """The process uses too much memory and must be killed immediately."""

    reason: str


@dataclass(frozen=True)
class Exited:
    """The process has exited.

    ``code`` is the exit code as in ``subprocess``, and ``draw`` is a random number from 0 to 1.
    """

    code: int
    draw: float
    #: True if only known crashing messages are to blame. The messages will be dead-lettered, so the service itself has
    #: not failed.
    is_known: bool = False


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Start | Stop | Go | Spawned | SpawnFailed | Ready | WatchdogPing | WatchdogTrigger | MemoryExceeded | Exited | Tick
)
