"""The choice of the queues whose counts are read in each second.

A count costs about 0.1 ms, and a queue with three retry delays has five counts. The retry queues and dead-letter queues
are therefore read every second only while they contain messages or after a failed attempt. All others take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.dashboard.queue_figures import Counts, QueueFigures

#: The number of rounds in which each empty retry queue and dead-letter queue is read once.
TURNS = 5
#: Seconds after a failed attempt in which the retry queues and the dead-letter queue are read in each round.
RECENT = 10.0
#: The kinds of steps that send a message to a retry queue or to the dead-letter queue.
_FAILURES = ("retried", "dead_lettered", "rejected")


class CountRounds:
    """The latest counts of all queues of a topology. One thread reads the counts, and another adds snapshots."""

    def __init__(self, figures: QueueFigures, clock: Callable[[], float] = time.monotonic) -> None:
        self._figures, self._clock = figures, clock
        self.counts: Counts = {}
        self._round = 0
        self._failures: dict[str, int] = {}
        #: The time of the last failure of each queue.
        self._failed: dict[str, float] = {}

    def add(self, slots: Sequence[Mapping[str, Any]]) -> None:
        """Notice the failed attempts since the last snapshot."""
        totals: dict[str, int] = {}
        for slot in slots:
            for kind, queue, _, count, *_ in slot.get("edges", ()):
                if kind in _FAILURES:
                    totals[queue] = totals.get(queue, 0) + count
        now = self._clock()
        self._failed |= {queue: now for queue, count in totals.items() if count != self._failures.get(queue, 0)}
        self._failures = totals

    def counted(self, counts: Counts, unknown: Mapping[str, str]) -> None:
        """Keep the counts of one round. Forget the counts of queues that cannot answer."""
        kept = {name: found for name, found in self.counts.items() if name not in unknown}
        self.counts = {**kept, **counts}

    def choose(self) -> list[str]:
        """Return the queues of the next round."""
        self._round += 1
        now = self._clock()
        return [
            name
            for number, (name, owner) in enumerate(self._figures.owners.items())
            if owner is None
            or number % TURNS == self._round % TURNS
            or now - self._failed.get(owner, -RECENT) < RECENT
            or self._is_busy(name)
        ]

    def _is_busy(self, name: str) -> bool:
        """Return True for a queue with messages, and for a queue whose counts are unknown."""
        if name not in self.counts:
            return True
        found = self.counts[name]
        return found is not None and found.messages > 0
