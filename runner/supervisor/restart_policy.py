"""When a process is restarted, how long that waits, and when it is given up; all times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Restart(StrEnum):
    """What follows an end that nobody asked for; systemd's words."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True)
class Backoff:
    """The delay before a restart: ``initial``, then times ``factor`` for each further failure, up to ``max``."""

    initial: float = 0.5
    factor: float = 2.0
    max: float = 30.0
    #: Each delay is multiplied by a random number from 1 - ``jitter`` to 1, so that not all slots start at once.
    jitter: float = 0.5
    #: Running this long after READY makes the next delay the first one again.
    reset_after: float = 60.0

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds before restart number ``attempt``, which counts from 1; ``draw`` is a random number from 0 to 1."""
        # The exponent is clamped, because a float overflows after some thousand failures.
        longest = min(self.initial * self.factor ** min(attempt - 1, 64), self.max)
        return longest * (1 - self.jitter + self.jitter * draw)


@dataclass(frozen=True)
class RestartLimit:
    """``count`` failures within ``window`` are FATAL, and so are ``count`` in a row that never got ready."""

    count: int = 5
    window: float = 60.0


@dataclass(frozen=True)
class RestartPolicy:
    """How one slot is kept."""

    restart: Restart = Restart.ALWAYS
    backoff: Backoff = Backoff()
    restart_limit: RestartLimit = RestartLimit()
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: A ready process that gives no sign of life for so long is hung; 0 for never.
    watchdog: float = 0.0
