"""The choice of the queues whose counts are read in each second.

A count costs about 0.1 ms, and a queue with three retry delays has five counts. Therefore only queues with messages or
with recent steps are read every second. All others take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.dashboard.queue_figures import Counts, QueueFigures

#: The number of rounds in which each empty queue of a service, and each empty retry queue or dead-letter queue, is read
#: once.
TURNS, PART_TURNS = 2, 5
#: Seconds after a step in which a queue is read in each round. Its retry queues and its dead-letter queue are read in
#: each round after a failed attempt.
RECENT = 10.0
#: The kinds of steps that send a message to a retry queue or to the dead-letter queue.
_FAILURES = ("retried", "dead_lettered", "rejected")


class CountRounds:
    """The latest counts of all queues of a topology. One thread reads the counts, and another adds snapshots."""

    def __init__(self, figures: QueueFigures, clock: Callable[[], float] = time.monotonic) -> None:
        self.figures, self._clock = figures, clock
        self.counts: Counts = {}
        self._round = 0
        #: The number of steps of each queue, and of its failed attempts.
        self._steps: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        #: The times of the last step and of the last failed attempt of each queue.
        self._used: dict[str, float] = {}
        self._failed: dict[str, float] = {}

    def add(self, slots: Sequence[Mapping[str, Any]]) -> None:
        """Notice the steps since the last snapshot."""
        steps: dict[str, int] = {}
        failures: dict[str, int] = {}
        for slot in slots:
            for kind, queue, _, count, *_ in slot.get("edges", ()):
                if kind != "published":
                    steps[queue] = steps.get(queue, 0) + count
                if kind in _FAILURES:
                    failures[queue] = failures.get(queue, 0) + count
        now = self._clock()
        self._used |= {queue: now for queue, count in steps.items() if count != self._steps.get(queue)}
        self._failed |= {queue: now for queue, count in failures.items() if count != self._failures.get(queue)}
        self._steps, self._failures = steps, failures

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
            for number, (name, owner) in enumerate(self.figures.owners.items())
            if self._is_busy(name)
            or (number + self._round) % (TURNS if owner is None else PART_TURNS) == 0
            or now - (self._used.get(name, -RECENT) if owner is None else self._failed.get(owner, -RECENT)) < RECENT
        ]

    def _is_busy(self, name: str) -> bool:
        """Return True for a queue with messages, and for a queue whose counts are unknown."""
        if name not in self.counts:
            return True
        found = self.counts[name]
        return found is not None and found.messages > 0
