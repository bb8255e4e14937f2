"""A pure function that computes the delay before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """A delay of ``initial`` seconds, multiplied by ``factor`` for each further attempt, up to ``max`` seconds."""

    initial: float
    max: float
    factor: float = 2.0
    #: The random part. Each delay is multiplied by a number between 1 - ``jitter`` and 1, which spreads attempts over
    #: time.
    jitter: float = 0.5

    def delay(self, attempt: int, draw: float) -> float:
        """Return the delay in seconds before an attempt.

        Attempts are numbered from 1. ``draw`` is a random number from 0 to 1.
        """
        # Without the limit on the exponent, the result would overflow after about a thousand attempts.
        longest = min(self.initial * self.factor ** min(attempt - 1, 64), self.max)
        return longest * (1 - self.jitter + self.jitter * draw)
