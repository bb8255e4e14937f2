"""The supervision settings in config.yaml, for start, restart, watchdog, limits and log files."""

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
#: A duration of at least 1 s. A shorter limit would kill processes that are only briefly busy.
AtLeastASecond = Annotated[Duration, Field(ge=1)]


def _check_zero_or_second(seconds: float) -> float:
    if 0 < seconds < 1:
        raise ValueError("too short; allowed: 1s or more, or 0s for never")
    return seconds


ZeroOrSecond = Annotated[Duration, AfterValidator(_check_zero_or_second)]


def _check_text(text: str) -> str:
    if "\0" in text:
        raise Unshown("contains a NUL character; allowed: any other text")
    return text


Text = Annotated[StrictStr, AfterValidator(_check_text)]


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name) or name.startswith(RESERVED):
        raise Unshown(f"not a variable's name, {name!r}; allowed: letters, digits and _, not beginning with {RESERVED}")
    return name


Variable = Annotated[StrictStr, AfterValidator(_check_variable)]


class BackoffSettings(Part):
    """The delay before a restart. The first restart of a process that was ready is immediate."""

    initial: Positive = Field("500ms", validate_default=True, description="The first delay.", examples=["200ms"])
    factor: float = Field(
        2.0, ge=1, le=10, description="Each delay is this many times as long as the delay before it.", examples=[3.0]
    )
    max: Positive = Field("30s", validate_default=True, description="The longest delay.", examples=["10s"])
    jitter: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The largest part of a delay that is subtracted at random, so that restarts do not coincide.",
        examples=[0.2],
    )
    reset_after: Positive = Field(
        "60s",
        validate_default=True,
        description="After the process has been ready for this long, the next delay is the first delay again.",
        examples=["2m"],
    )

    def backoff(self) -> Backoff:
        """Return the delays."""
        return Backoff(self.initial, self.max, self.factor, self.jitter)

    def longest_delays(self, count: int) -> float:
        """Return the maximum total delay in seconds before ``count`` restarts. The first restart is immediate."""
        return sum(self.backoff().delay(attempt, draw=1.0) for attempt in range(2, count + 1))


class RestartLimitSettings(Part):
    """The number of failures within the window, or of consecutive failed starts, that makes a slot FATAL."""

    count: StrictInt = Field(5, ge=1, le=100, description="The number of failures.", examples=[3])
    window: Positive = Field(
        "60s", validate_default=True, description="The time within which failures count.", examples=["5m"]
    )


class AutoscaleSettings(Part):
    """The number of instances follows the ready messages in the service's queues."""

    min: StrictInt = Field(1, ge=0, le=64, description="The smallest number of instances.", examples=[2])
    max: StrictInt = Field(ge=1, le=64, description="The largest number of instances.", examples=[8])
    messages_per_instance: StrictInt = Field(
        100, ge=1, description="One instance runs for each group of this many ready messages.", examples=[500]
    )
    up: Duration = Field(
        "5s",
        validate_default=True,
        description="Instances start after more instances have been needed for this long.",
        examples=["10s"],
    )
    down: Duration = Field(
        "60s",
        validate_default=True,
        description="Instances stop after fewer instances have been enough for this long.",
        examples=["5m"],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}; allowed: min up to max")
        return self


class Supervision(Part):
    """The supervision of one service."""

    restart: Literal["always", "on-failure", "never"] = Field(
        "always",
        description="Restart an instance that has exited: always, on-failure (unless its exit code is 0) or never.",
        examples=["on-failure"],
    )
    backoff: BackoffSettings = Field(BackoffSettings(), description="The delay before a restart.")
    restart_limit: RestartLimitSettings = Field(
        RestartLimitSettings(), description="The number of failures after which the supervisor gives a slot up."
    )
    depends_on: list[StrictStr] = Field(
        [], description="Services that must be ready before this one starts.", examples=[["order_api"]]
    )
    start_timeout: AtLeastASecond = Field(
        "30s",
        validate_default=True,
        description="The time in which an instance must become ready; 1s or more.",
        examples=["2m"],
    )
    stop_timeout: Positive = Field(
        "6s",
        validate_default=True,
        description="The time in which an instance must stop. After this time it is killed.",
        examples=["20s"],
    )
    watchdog: ZeroOrSecond = Field(
        "30s",
        validate_default=True,
        description="An instance without a watchdog ping for this long is hung, and is killed; 0s: never.",
        examples=["10s"],
    )
    max_crashes: StrictInt = Field(
        3,
        ge=1,
        le=100,
        description="The number of workers that a message may kill before the message is dead-lettered.",
        examples=[5],
    )
    handler_timeout: ZeroOrSecond = Field(
        "5m",
        validate_default=True,
        description="A handler that takes longer for one message is hung, and its process is killed; 0s: no limit.",
        examples=["30s"],
    )
    autoscale: AutoscaleSettings | None = Field(None, description="Let the number of instances follow the queues.")
    memory_max: Size | None = Field(
        None,
        description="An instance that uses more memory than this, with its children, is replaced.",
        examples=["256MiB"],
    )
    nice: StrictInt = Field(
        0,
        ge=-20,
        le=19,
        description="The scheduling priority as in nice(1); a higher number is a lower priority.",
        examples=[5],
    )
    open_files: StrictInt | None = Field(
        None, ge=64, description="The number of files and sockets that an instance may have open.", examples=[4096]
    )
    env: dict[Variable, Text] = Field(
        {}, description="Environment variables for the instances.", examples=[{"TZ": "UTC"}]
    )
    user: StrictStr | None = Field(
        None, description="The user of the instances; only if the supervisor runs as root.", examples=["shop"]
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        limit, longest = self.restart_limit, self.backoff.longest_delays(self.restart_limit.count - 1)
        if longest >= limit.window:
            raise ValueError(
                f"restart_limit: never reached, its {limit.count} failures take up to {longest:,.0f} s of backoff,"
                f" more than its window {format_duration(limit.window)};"
                " allowed: a longer window, fewer failures, or shorter delays"
            )
        return self


class Logs(Part):
    """The log files in var/log, with one file for each slot."""

    max_size: Size = Field(
        "10MB", validate_default=True, gt=0, description="A larger file is renamed, and a new file is started.",
        examples=["50MB"],
    )  # fmt: skip
    keep: StrictInt = Field(5, ge=0, le=100, description="The number of renamed files that are kept.", examples=[10])


class Runner(Part):
    """The supervisor itself."""

    on_fatal: Literal["keep", "exit"] = Field(
        "keep",
        description="If a service is FATAL, keep the others running, or stop them all and exit with code 1.",
        examples=["exit"],
    )
    logs: Logs | None = Field(None, description="Also write all output to files; {} uses the defaults.")
