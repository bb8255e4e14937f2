"""The supervision settings in config.yaml: starts, restarts, the watchdog, limits and log files."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from runner.backoff import Backoff
from runner.config.topology_file import Part
from runner.config.value import Duration, Size, Unshown, format_duration

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The prefix of FastCommerce's own environment variables.
RESERVED = "FASTCOMMERCE_"

Positive = Annotated[Duration, Field(gt=0)]
#: A duration of at least 1 s. With a shorter limit, processes that are only briefly busy would be killed.
AtLeastASecond = Annotated[Duration, Field(ge=1)]


def _check_zero_or_second(seconds: float) -> float:
    if 0 < seconds < 1:
        raise ValueError("too short; allowed: 1s or more, or 0s for no limit")
    return seconds


ZeroOrSecond = Annotated[Duration, AfterValidator(_check_zero_or_second)]


def _check_text(text: str) -> str:
    if "\0" in text:
        raise Unshown("contains a NUL character; allowed: text without NUL")
    return text


Text = Annotated[StrictStr, AfterValidator(_check_text)]


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name) or name.startswith(RESERVED):
        raise Unshown(f"not a variable name, {name!r}; allowed: letters, digits and _, without the prefix {RESERVED}")
    return name


Variable = Annotated[StrictStr, AfterValidator(_check_variable)]


class BackoffSettings(Part):
    """The delay before a restart. The first restart of a process that was ready is immediate."""

    initial: Positive = Field("500ms", validate_default=True, description="The first delay.", examples=["200ms"])
    factor: float = Field(
        2.0, ge=1, le=10, description="Each delay is the previous delay multiplied by this factor.", examples=[3.0]
    )
    max: Positive = Field("30s", validate_default=True, description="The maximum delay.", examples=["10s"])
    jitter: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The maximum fraction of a delay that is subtracted at random, so that restarts do not coincide.",
        examples=[0.2],
    )
    reset_after: Positive = Field(
        "60s",
        validate_default=True,
        description="After a process has been ready for this time, its next delay is the first delay again.",
        examples=["2m"],
    )

    def backoff(self) -> Backoff:
        """Return a Backoff with these settings."""
        return Backoff(self.initial, self.max, self.factor, self.jitter)

    def longest_delays(self, count: int) -> float:
        """Return the maximum total delay of ``count`` restarts in seconds. The first restart is immediate."""
        return sum(self.backoff().delay(attempt, draw=1.0) for attempt in range(2, count + 1))


class RestartLimitSettings(Part):
    """The number of failures within a time window, or of consecutive failed starts, that makes a slot FATAL."""

    count: StrictInt = Field(5, ge=1, le=100, description="The number of failures.", examples=[3])
    window: Positive = Field(
        "60s", validate_default=True, description="The length of the time window.", examples=["5m"]
    )


class AutoscaleSettings(Part):
    """Automatic adjustment of the number of instances to the number of ready messages."""

    min: StrictInt = Field(1, ge=0, le=64, description="The minimum number of instances.", examples=[2])
    max: StrictInt = Field(ge=1, le=64, description="The maximum number of instances.", examples=[8])
    messages_per_instance: StrictInt = Field(
        100, ge=1, description="The number of ready messages per instance.", examples=[500]
    )
    up: Duration = Field(
        "5s",
        validate_default=True,
        description="Instances are started after more instances have been needed for this time.",
        examples=["10s"],
    )
    down: Duration = Field(
        "60s",
        validate_default=True,
        description="Instances are stopped after fewer instances have been sufficient for this time.",
        examples=["5m"],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}; allowed: a min of at most max")
        return self


class Supervision(Part):
    """The supervision settings of a service."""

    restart: Literal["always", "on-failure", "never"] = Field(
        "always",
        description="Restart an instance that has exited: always, on-failure (unless the exit code is 0) or never.",
        examples=["on-failure"],
    )
    backoff: BackoffSettings = Field(BackoffSettings(), description="The delay before a restart.")
    restart_limit: RestartLimitSettings = Field(
        RestartLimitSettings(), description="The number of failures after which the supervisor gives up on a slot."
    )
    depends_on: list[StrictStr] = Field(
        [], description="Services that must be ready before this service starts.", examples=[["order_api"]]
    )
    start_timeout: AtLeastASecond = Field(
        "30s",
        validate_default=True,
        description="The time within which an instance must become ready; 1s or more.",
        examples=["2m"],
    )
    stop_timeout: Positive = Field(
        "6s",
        validate_default=True,
        description="The time within which an instance must stop. An instance that takes longer is killed.",
        examples=["20s"],
    )
    watchdog: ZeroOrSecond = Field(
        "30s",
        validate_default=True,
        description="An instance that sends no watchdog ping for this time is hung, and is killed; 0s: never.",
        examples=["10s"],
    )
    max_crashes: StrictInt = Field(
        3,
        ge=1,
        le=100,
        description="The number of workers that a message can crash before the message is dead-lettered.",
        examples=[5],
    )
    handler_timeout: ZeroOrSecond = Field(
        "5m",
        validate_default=True,
        description="The maximum time for handling a message. A process that takes longer is killed; 0s: no limit.",
        examples=["30s"],
    )
    autoscale: AutoscaleSettings | None = Field(
        None, description="Adjust the number of instances to the number of ready messages."
    )
    memory_max: Size | None = Field(
        None,
        description="The maximum memory of an instance and its child processes. A larger instance is replaced.",
        examples=["256MiB"],
    )
    nice: StrictInt = Field(
        0,
        ge=-20,
        le=19,
        description="The nice value, as in nice(1). A higher number means a lower priority.",
        examples=[5],
    )
    open_files: StrictInt | None = Field(
        None, ge=64, description="The maximum number of open files and sockets of an instance.", examples=[4096]
    )
    env: dict[Variable, Text] = Field(
        {}, description="Environment variables for the instances.", examples=[{"TZ": "UTC"}]
    )
    user: StrictStr | None = Field(
        None,
        description="The user that runs the instances. This requires a supervisor that runs as root.",
        examples=["shop"],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        limit, longest = self.restart_limit, self.backoff.longest_delays(self.restart_limit.count - 1)
        if longest >= limit.window:
            raise ValueError(
                f"restart_limit: never reached, because {limit.count} failures take up to {longest:,.0f} s of backoff,"
                f" more than the window of {format_duration(limit.window)};"
                " allowed: a longer window, fewer failures or shorter delays"
            )
        return self


class Logs(Part):
    """The log files in var/log, one for each slot."""

    max_size: Size = Field(
        "10MB", validate_default=True, gt=0,
        description="The maximum size of a log file. A larger file is renamed, and a new file is created.",
        examples=["50MB"],
    )  # fmt: skip
    keep: StrictInt = Field(5, ge=0, le=100, description="The number of renamed files to keep.", examples=[10])


class Runner(Part):
    """The settings of the supervisor itself."""

    on_fatal: Literal["keep", "exit"] = Field(
        "keep",
        description="If a service is FATAL, keep the others running, or stop all services and exit with code 1.",
        examples=["exit"],
    )
    logs: Logs | None = Field(None, description="Also write all output to log files; {} uses the defaults.")
