"""The number of instances that a service needs for its ready messages, as a pure function of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Autoscale:
    """The limits and delays of scaling. Times are in seconds."""

    min: int
    max: int
    #: The number of ready messages per instance.
    messages_per_instance: int
    #: The time for which more instances must be needed before any are added.
    up: float
    #: The time for which fewer instances must be sufficient before any are removed.
    down: float


@dataclass(frozen=True)
class Trend:
    """The direction in which the number of instances should change, its start, and the smallest change since then."""

    direction: int = 0
    since: float = 0.0
    number: int = 0


def follow(settings: Autoscale, trend: Trend, instances: int, ready: int, now: float) -> tuple[Trend, int]:
    """Return the next trend and the number of instances, given the number of ready messages at ``now`` (seconds).

    The number changes only after the trend has lasted for ``up`` or ``down`` seconds without interruption. The number
    changes by the smallest amount that was needed within this time.
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
