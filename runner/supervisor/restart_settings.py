"""The settings of restarts, in seconds. ``slot_lifecycle`` decides about a restart, its delay, and giving up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner.backoff import Backoff

#: The delays before a restart, as in the defaults of config.yaml.
RESTART_DELAYS = Backoff(0.5, max=30.0)


class Restart(StrEnum):
    """What follows an end that nobody asked for; systemd's words."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True)
class RestartLimit:
    """``count`` failures within ``window`` are FATAL, and so are ``count`` in a row that never got ready."""

    count: int = 5
    window: float = 60.0


@dataclass(frozen=True)
class RestartPolicy:
    """How one slot is kept."""

    restart: Restart = Restart.ALWAYS
    backoff: Backoff = RESTART_DELAYS
    #: A process that has been ready for this long gets the first delay of the backoff again.
    reset_after: float = 60.0
    restart_limit: RestartLimit = RestartLimit()
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: A ready process that gives no sign of life for so long is hung; 0 for never.
    watchdog: float = 0.0
