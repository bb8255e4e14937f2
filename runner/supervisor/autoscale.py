"""How many instances a service should have for the messages that wait, as a pure function of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Autoscale:
    """The bounds and the pace; times in seconds."""

    min: int
    max: int
    #: One instance more for each so many messages that wait and are in nobody's hand.
    messages_per_instance: int
    #: How long more, and how long fewer, must have been right before it is done.
    up: float
    down: float


@dataclass(frozen=True)
class Trend:
    """Since when another number would have been right, and the mildest such number in that time."""

    direction: int = 0
    since: float = 0.0
    number: int = 0


def follow(settings: Autoscale, trend: Trend, instances: int, ready: int, now: float) -> tuple[Trend, int]:
    """The trend after ``ready`` waiting messages were seen, and how many instances there should be now.

    A number is only changed after the queue has asked for it without a break; of what it asked for in that time, what
    is nearest to the present number is taken.
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
