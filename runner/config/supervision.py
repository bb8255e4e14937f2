"""What config.yaml says of keeping services running: when they start, restart and count as hung, and their limits."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from runner.config.topology import Part
from runner.config.value import Duration, Size, Unshown, format_duration

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The names of our own variables begin so.
RESERVED = "FASTCOMMERCE_"

Positive = Annotated[Duration, Field(gt=0)]
#: Shorter ones would end what is only busy for a moment.
AtLeastASecond = Annotated[Duration, Field(ge=1)]


def _check_zero_or_second(seconds: float) -> float:
    if 0 < seconds < 1:
        raise ValueError("too short; allowed: 1s or more, or 0s for never")
    return seconds


ZeroOrSecond = Annotated[Duration, AfterValidator(_check_zero_or_second)]


def _check_text(text: str) -> str:
    if "\0" in text:
        raise Unshown("holds a zero character; allowed: any other text")
    return text


Text = Annotated[StrictStr, AfterValidator(_check_text)]


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name) or name.startswith(RESERVED):
        raise Unshown(f"not a variable's name, {name!r}; allowed: letters, digits and _, not beginning with {RESERVED}")
    return name


Variable = Annotated[StrictStr, AfterValidator(_check_variable)]


class Backoff(Part):
    """The delay before a restart; the first one of a process that had been ready is immediate."""

    initial: Positive = Field("500ms", validate_default=True, description="The first delay.")
    factor: float = Field(2.0, ge=1, le=10, description="Each further delay is so many times longer.")
    max: Positive = Field("30s", validate_default=True, description="The longest delay.")
    jitter: float = Field(0.5, ge=0, le=1, description="Each delay is shortened by a random part, up to this one.")
    reset_after: Positive = Field(
        "60s", validate_default=True, description="Being ready for so long makes the next delay the first one again."
    )

    def longest_delays(self, count: int) -> float:
        """Seconds that the delays before ``count`` restarts take at most, the first one being immediate."""
        return sum(min(self.initial * self.factor ** min(number, 64), self.max) for number in range(1, count))


class RestartLimit(Part):
    """When a service is given up: so many failures within a time, or so many starts in a row that never got ready."""

    count: StrictInt = Field(5, ge=1, le=100, description="How many failures.")
    window: Positive = Field("60s", validate_default=True, description="Within which time.")


class Autoscale(Part):
    """How many instances run, by the messages that wait in the service's queues."""

    min: StrictInt = Field(1, ge=0, le=64, description="The fewest.")
    max: StrictInt = Field(ge=1, le=64, description="The most.")
    messages_per_instance: StrictInt = Field(100, ge=1, description="One more for each so many ready messages.")
    up: Duration = Field("5s", validate_default=True, description="How long more are needed before it is done.")
    down: Duration = Field("60s", validate_default=True, description="How long fewer are enough before it is done.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}; allowed: min up to max")
        return self


class Supervision(Part):
    """How one service is kept running."""

    restart: Literal["always", "on-failure", "never"] = Field(
        "always", description="After which end it is started again; on-failure: any but exit code 0."
    )
    backoff: Backoff = Field(Backoff(), description="The delay before a restart.")
    restart_limit: RestartLimit = Field(RestartLimit(), description="When it is given up.")
    depends_on: list[StrictStr] = Field([], description="Services that are ready before it starts.")
    start_timeout: AtLeastASecond = Field("30s", validate_default=True, description="How long it may take to be ready.")
    stop_timeout: Positive = Field(
        "6s", validate_default=True, description="How long it may take to stop before it is killed."
    )
    watchdog: ZeroOrSecond = Field(
        "30s",
        validate_default=True,
        description="Without a sign of life for so long it is hung, and killed; 0s: never.",
    )
    max_crashes: StrictInt = Field(
        3, ge=1, le=100, description="How many workers a message may kill before it is parked."
    )
    handler_timeout: ZeroOrSecond = Field(
        "5m", validate_default=True, description="How long one message may take before it counts as hung; 0s: for ever."
    )
    autoscale: Autoscale | None = Field(None, description="Let the number of instances follow the queues.")
    memory_max: Size | None = Field(None, description="An instance that takes more memory is replaced: 256MiB.")
    nice: StrictInt = Field(0, ge=-20, le=19, description="Scheduling priority; more is less.")
    open_files: StrictInt | None = Field(None, ge=64, description="How many files and sockets it may have open.")
    env: dict[Variable, Text] = Field({}, description="Environment variables for it.")
    user: StrictStr | None = Field(None, description="Whose rights it has, where the runner is root.")

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
    """Files in var/log, one for each instance."""

    max_size: Size = Field("10MB", validate_default=True, gt=0, description="A larger file is put aside.")
    keep: StrictInt = Field(5, ge=0, le=100, description="How many that were put aside are kept.")


class Runner(Part):
    """The supervisor itself."""

    on_fatal: Literal["keep", "exit"] = Field(
        "keep", description="When one service is given up: keep the others running, or stop all and end with 1."
    )
    logs: Logs | None = Field(None, description="Also write all output to files.")
