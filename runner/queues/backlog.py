"""The backlog of a queue, computed from samples: the age of the oldest message, the growth, and the rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

#: The precision of an age in seconds. RabbitMQ samples its statistics every 5 s, and reports each sample one interval
#: late (RabbitMQ: "Management Plugin").
RESOLUTION = 10.0
#: The period in seconds over which a growing queue is detected.
TREND = 30.0
#: The minimum number of samples needed to detect a growing queue.
LEAST_SAMPLES = 6
#: The period in seconds over which a rate is computed.
RATE_WINDOW = 10.0


@dataclass(frozen=True)
class Sample:
    """The counts of a queue at one time."""

    #: Seconds since the epoch.
    time: float
    ready: int
    #: The number of messages delivered so far, excluding redeliveries, or None if the number is unknown.
    delivered: int | None


@dataclass(frozen=True)
class Age:
    """The waiting time of the oldest ready message."""

    #: The minimum age in seconds. The true age is greater by at most the sampling interval.
    seconds: float
    #: True if the message arrived before the first sample, so that its age may be much greater.
    is_older: bool = False


def oldest_age(samples: Sequence[Sample], now: float, *, is_consumed: bool) -> Age | None:
    """Return the age of the oldest ready message, or None if the age is unknown. The queue must have a ready message.

    ``samples`` are sorted by time. A queue delivers its messages in order. If all messages that were ready in a sample
    have been delivered since, every currently ready message arrived after that sample. ``is_consumed`` is False if the
    queue currently has no consumer. In this case, the time since the last sample is added to the age of the oldest
    message.
    """
    if not samples:
        return None
    last = samples[-1]
    extra = 0.0 if is_consumed else max(0.0, now - last.time)
    later = last
    for one in reversed(samples if last.ready == 0 else samples[:-1]):
        if last.delivered is None or one.delivered is None:
            return None
        if one.ready <= last.delivered - one.delivered:
            return Age(last.time - later.time + extra)
        later = one
    return Age(last.time - samples[0].time + extra, is_older=True) if len(samples) > 1 else None


def is_growing(samples: Sequence[Sample]) -> bool:
    """Return True if every recent sample shows more ready messages than every earlier sample.

    Only samples from the last TREND seconds are compared, in two halves. A queue that has stopped growing is not
    reported as growing.
    """
    if not samples:
        return False
    counts = [one.ready for one in samples if one.time >= samples[-1].time - TREND]
    middle = len(counts) // 2
    earlier, later = counts[:middle], counts[middle:]
    return len(counts) >= LEAST_SAMPLES and min(later) > max(earlier) and later[-1] > later[0]


def arrivals(samples: Sequence[Sample]) -> float | None:
    """Return the rate, in messages per second, at which messages arrive in a queue that no message leaves.

    The rate covers the last RATE_WINDOW seconds. It is unknown (None) if a message has left the queue, or if there are
    fewer than two samples.
    """
    recent = [one for one in samples if one.time >= samples[-1].time - RATE_WINDOW]
    if len(recent) < 2 or recent[-1].time <= recent[0].time:
        return None
    steps = [later.ready - earlier.ready for earlier, later in pairwise(recent)]
    return None if min(steps) < 0 else sum(steps) / (recent[-1].time - recent[0].time)
