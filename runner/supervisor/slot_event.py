"""The events of a slot, which ``step`` handles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """A process is wanted in this slot."""


@dataclass(frozen=True)
class Stop:
    """A process is no longer wanted in this slot."""


@dataclass(frozen=True)
class Go:
    """The slot no longer needs to wait."""


@dataclass(frozen=True)
class Spawned:
    """The process exists."""

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
    """The process sent WATCHDOG=trigger, because its own check found that it hangs."""

    reason: str


@dataclass(frozen=True)
class MemoryExceeded:
    """The process uses too much memory and must be killed immediately."""

    reason: str


@dataclass(frozen=True)
class Exited:
    """The process has exited. ``code`` is as in ``subprocess``, and ``draw`` a random number from 0 to 1."""

    code: int
    draw: float
    #: True if only known crashing messages are to blame. They will be dead-lettered, so the service is healthy.
    is_known: bool = False


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Start | Stop | Go | Spawned | SpawnFailed | Ready | WatchdogPing | WatchdogTrigger | MemoryExceeded | Exited | Tick
)
