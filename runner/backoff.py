"""The delay before another attempt, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """A delay of ``initial`` seconds, multiplied by ``factor`` for each further attempt, up to ``max`` seconds."""

    initial: float
    max: float
    factor: float = 2.0
    #: The random fraction. A delay is multiplied by a number from 1 - ``jitter`` to 1, so that attempts are spread out.
    jitter: float = 0.5

    def delay(self, attempt: int, draw: float) -> float:
        """Return the seconds before an attempt, numbered from 1. ``draw`` is a random number from 0 to 1."""
        # Without this limit, the float would overflow after about a thousand attempts.
        longest = min(self.initial * self.factor ** min(attempt - 1, 64), self.max)
        return longest * (1 - self.jitter + self.jitter * draw)
