"""The program of a service: its command, number of instances, restart policy and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.backoff import Backoff
from runner.supervisor.autoscale import Autoscale

#: The delays before a restart in seconds, equal to the defaults in config.yaml.
RESTART_DELAYS = Backoff(0.5, max=30.0)
#: The placeholder for the slot name in a command.
SLOT = "{slot}"


class Restart(StrEnum):
    """The conditions for a restart after an exit, named as in systemd."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True)
class RestartLimit:
    """The limit on the failures of a slot.

    A slot becomes FATAL after ``count`` failures within ``window`` seconds, or after ``count`` consecutive failed
    starts.
    """

    count: int = 5
    window: float = 60.0


@dataclass(frozen=True)
class RestartPolicy:
    """The rules for restarting and killing the process of a slot. Times are in seconds."""

    restart: Restart = Restart.ALWAYS
    backoff: Backoff = RESTART_DELAYS
    #: The time for which a process must be ready before its restart delay is reset.
    reset_after: float = 60.0
    restart_limit: RestartLimit = RestartLimit()
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: The time without a watchdog ping after which a ready process is killed. 0 disables the watchdog.
    watchdog: float = 0.0


@dataclass(frozen=True)
class Limits:
    """The resource limits and the user of a process. None means that the process inherits the supervisor's value."""

    #: The resident memory in bytes above which the process is replaced.
    memory_max: int | None = None
    #: The change of the nice value, from -20 to 19. A larger nice value means a lower priority (setpriority(2)).
    nice: int = 0
    #: The maximum number of open file descriptors (RLIMIT_NOFILE).
    open_files: int | None = None
    #: The user that runs the process. Only root can run a process as another user.
    user: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """The addresses of the project's private broker on loopback."""

    port: int
    #: The URL of RabbitMQ's HTTP API.
    management: str


@dataclass(frozen=True)
class Program:
    """A command whose process sends sd_notify messages on its lifeline, and stops on SIGTERM."""

    service: str
    command: tuple[str, ...]
    #: The data on the process's standard input.
    stdin: bytes = b""
    #: Environment variables, in addition to the supervisor's environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    limits: Limits = field(default_factory=Limits)
    instances: int = 1
    autoscale: Autoscale | None = None
    #: The services that must be ready before this service starts.
    depends_on: tuple[str, ...] = ()
    #: A digest of the plugin's files.
    revision: str = ""
    #: The addresses of the broker that this program runs, or None for any other program.
    endpoint: Endpoint | None = None
    #: False for a process that the supervisor's ``prepare`` needs. All other processes start after ``prepare``.
    after_prepare: bool = True

    def is_same_process(self, other: Program) -> bool:
        """Return True if a process that was started for ``other`` can keep running for this program."""
        return self._process() == other._process()

    def _process(self) -> Program:
        limits = replace(self.limits, memory_max=None)
        policy = RestartPolicy(watchdog=self.policy.watchdog)  # the only rule that is passed to the process
        return replace(self, policy=policy, limits=limits, instances=1, autoscale=None, depends_on=())


def differences(old: Mapping[str, Program], new: Mapping[str, Program]) -> str:
    """Return a description of the services that were added, removed or changed between two sets of programs."""
    kinds = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "changed": {name for name in new.keys() & old.keys() if new[name] != old[name]},
    }
    return "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names) or "no change"
