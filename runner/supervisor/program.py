"""The program of a service: its command, its number of instances, its restarts and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.backoff import Backoff
from runner.supervisor.autoscale import Autoscale

#: The delays before a restart, in seconds, as in the defaults of config.yaml.
RESTART_DELAYS = Backoff(0.5, max=30.0)
#: The placeholder in a command for the name of its slot.
SLOT = "{slot}"


class Restart(StrEnum):
    """The restart policies after an unexpected exit, named as in systemd."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True)
class RestartLimit:
    """The number of failures after which a slot becomes FATAL.

    A slot becomes FATAL after ``count`` failures within ``window`` seconds, or after ``count`` failed starts in a row.
    """

    count: int = 5
    window: float = 60.0


@dataclass(frozen=True)
class RestartPolicy:
    """The rules for restarting and killing the process of a slot; times in seconds."""

    restart: Restart = Restart.ALWAYS
    backoff: Backoff = RESTART_DELAYS
    #: The time after which a ready process is restarted with the first delay again.
    reset_after: float = 60.0
    restart_limit: RestartLimit = RestartLimit()
    start_timeout: float = 30.0
    stop_timeout: float = 6.0
    #: The time without a watchdog ping after which a ready process is killed; 0 for never.
    watchdog: float = 0.0


@dataclass(frozen=True)
class Limits:
    """The resource limits and the user of one process. For None, the supervisor's own value is inherited."""

    #: The bytes of resident memory above which an instance is replaced.
    memory_max: int | None = None
    #: The change of the scheduling priority, -20 to 19. A larger number means a lower priority (setpriority(2)).
    nice: int = 0
    #: The limit of open descriptors (RLIMIT_NOFILE).
    open_files: int | None = None
    #: The user that runs the process; only root may set another user.
    user: str | None = None


@dataclass(frozen=True)
class Endpoint:
    """The addresses of the project's own broker on loopback."""

    port: int
    #: The URL of RabbitMQ's HTTP API.
    management: str


@dataclass(frozen=True)
class Program:
    """A command that sends sd_notify messages on its lifeline and stops on SIGTERM."""

    service: str
    command: tuple[str, ...]
    #: The content of its standard input.
    stdin: bytes = b""
    #: The variables that are added to the supervisor's own environment.
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    limits: Limits = field(default_factory=Limits)
    instances: int = 1
    autoscale: Autoscale | None = None
    #: The services that must each have a ready instance before this service starts.
    depends_on: tuple[str, ...] = ()
    #: A digest of the files of the plugin.
    revision: str = ""
    #: The addresses of the process, if it is a broker.
    endpoint: Endpoint | None = None
    #: False for the processes that the supervisor's ``prepare`` needs. All other processes wait for ``prepare``.
    after_prepare: bool = True

    def is_same_process(self, other: Program) -> bool:
        """Return True if a process of ``other`` need not be replaced to run this program."""
        return self._process() == other._process()

    def _process(self) -> Program:
        limits = replace(self.limits, memory_max=None)
        policy = RestartPolicy(watchdog=self.policy.watchdog)  # the only rule that the process itself gets
        return replace(self, policy=policy, limits=limits, instances=1, autoscale=None, depends_on=())


def differences(old: Mapping[str, Program], new: Mapping[str, Program]) -> str:
    """Return the differences between two sets of programs, by service, in words."""
    kinds = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "changed": {name for name in new.keys() & old.keys() if new[name] != old[name]},
    }
    return "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names) or "no change"
