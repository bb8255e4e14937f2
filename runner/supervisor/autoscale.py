"""A pure function that computes the number of instances that a service needs for its ready messages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Autoscale:
    """The limits and delays of autoscaling. Times are in seconds."""

    min: int
    max: int
    #: The number of ready messages per instance.
    messages_per_instance: int
    #: The time for which more instances must be needed before instances are started.
    up: float
    #: The time for which fewer instances must be sufficient before instances are stopped.
    down: float


@dataclass(frozen=True)
class Trend:
    """A needed change in the number of instances: its direction, its start, and its smallest amount so far."""

    direction: int = 0
    since: float = 0.0
    number: int = 0


def follow(settings: Autoscale, trend: Trend, instances: int, ready: int, now: float) -> tuple[Trend, int]:
    """Return the next trend and the new number of instances, given the number of ready messages at ``now`` (seconds).

    The number of instances changes only after the trend has lasted for ``up`` or ``down`` seconds without interruption.
    The change is the smallest amount that was needed during the trend.
    """
    right = max(settings.min, min(settings.max, math.ceil(ready / settings.messages_per_instance)))
    direction = (right > instances) - (right < instances)
    if direction == 0:
        return Trend(), instances
    if direction != trend.direction:
        trend = Trend(direction, now, right)
    nearest = min(trend.number, right) if direction > 0 else max(trend.number, right)
    trend = replace(trend, number=nearest)
    if now - trend.since >= (settings.up if direction > 0 else settings.down):
        return Trend(), nearest
    return trend, instances
