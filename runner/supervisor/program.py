"""What to run: one program for each service, in as many slots as it has instances, and when to restart it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.backoff import Backoff
from runner.supervisor.autoscale import Autoscale

#: The delays before a restart, as in the defaults of config.yaml.
RESTART_DELAYS = Backoff(0.5, max=30.0)
#: In a command, stands for the slot that it is to fill.
SLOT = "{slot}"


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
    """How one slot is kept; times in seconds. ``slot_lifecycle`` decides by it about restarts."""

    restart: Restart = Restart.ALWAYS
    backoff: Backoff = RESTART_DELAYS
    #: A process that has been ready for this long gets the first delay of the backoff again.
    reset_after: float = 60.0
    restart_limit: RestartLimit = RestartLimit()
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: A ready process that gives no sign of life for so long is hung; 0 for never.
    watchdog: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What one process may take; None leaves it as the supervisor's own."""

    #: Bytes of resident memory over which an instance is replaced by a fresh one.
    memory_max: int | None = None
    #: Added to the scheduling priority, where less is more: -20 to 19 (setpriority(2)).
    nice: int = 0
    #: How many descriptors it may have open (RLIMIT_NOFILE).
    open_files: int | None = None
    #: Whose rights it has; only root may give others than its own.
    user: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where a broker of ours answers on loopback."""

    port: int
    #: The URL of RabbitMQ's HTTP API.
    management: str


@dataclass(frozen=True)
class Program:
    """A command that speaks sd_notify's words on its lifeline, and stops on SIGTERM."""

    service: str
    command: tuple[str, ...]
    #: Written to its standard input.
    stdin: bytes = b""
    #: Added to the supervisor's own environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    limits: Limits = field(default_factory=Limits)
    instances: int = 1
    autoscale: Autoscale | None = None
    #: Services of which an instance must be ready before this one starts.
    depends_on: tuple[str, ...] = ()
    #: What else its process depends on; another one is another program.
    revision: str = ""
    #: Where it answers, if it is a broker.
    endpoint: Endpoint | None = None
    #: Whether it waits until the supervisor's ``prepare`` has succeeded; what ``prepare`` itself needs does not.
    after_prepare: bool = True

    def is_same_process(self, other: Program) -> bool:
        """Whether a process of this program would be no other than one of ``other``."""
        return self._process() == other._process()

    def _process(self) -> Program:
        limits = replace(self.limits, memory_max=None)
        policy = RestartPolicy(watchdog=self.policy.watchdog)  # the process is told of this one only
        return replace(self, policy=policy, limits=limits, instances=1, autoscale=None, depends_on=())


def differences(old: Mapping[str, Program], new: Mapping[str, Program]) -> str:
    """What other programs, by service, change; in words."""
    kinds = {
        "new": new.keys() - old.keys(),
        "gone": old.keys() - new.keys(),
        "changed": {name for name in new.keys() & old.keys() if new[name] != old[name]},
    }
    return (
        "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names) or "nothing differs"
    )
