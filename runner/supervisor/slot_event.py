"""What may happen to a slot: the events that ``step`` takes it through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """A process is wanted in this slot."""


@dataclass(frozen=True)
class Stop:
    """No process is wanted in this slot any more."""


@dataclass(frozen=True)
class Go:
    """Everything that the slot waits for is there."""


@dataclass(frozen=True)
class Spawned:
    """The process exists."""

    pid: int


@dataclass(frozen=True)
class SpawnFailed:
    """The process could not be made; ``draw`` is a random number from 0 to 1."""

    reason: str
    draw: float


@dataclass(frozen=True)
class Ready:
    """The process said READY=1."""


@dataclass(frozen=True)
class Beat:
    """The process said WATCHDOG=1: its work goes on."""


@dataclass(frozen=True)
class Hung:
    """The process itself found that its work does not go on."""

    reason: str


@dataclass(frozen=True)
class Condemned:
    """The process is to end at once, for what it does to others."""

    reason: str


@dataclass(frozen=True)
class Exited:
    """The process has ended: ``code`` as of ``subprocess``, ``draw`` a random number from 0 to 1."""

    code: int
    draw: float
    #: Whether a message is to blame that was blamed before: it is parked in the end, and the service is not at fault.
    is_known: bool = False


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Start | Stop | Go | Spawned | SpawnFailed | Ready | Beat | Hung | Condemned | Exited | Tick
