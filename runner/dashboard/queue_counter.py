"""The reading of the counts of all queues, round by round, while a page is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner.admin import queue_counts
from runner.dashboard.count_rounds import CountRounds
from runner.dashboard.page_files import RunningFiles
from runner.dashboard.queue_figures import QueueFigures
from runner.errors import RunnerError

#: Seconds between two rounds.
INTERVAL = 1.0


class _Over(Exception):
    """Raised to leave a connection when the counts or the queues are no longer needed."""


class QueueCounter:
    """The counts of the queues of the running topology. One thread calls ``read``, and another the other methods."""

    def __init__(self) -> None:
        self._urls: list[str] = []
        self._rounds: CountRounds | None = None
        #: The reason why the counts cannot be read, or None.
        self.problem: str | None = None

    def count(self, files: RunningFiles) -> None:
        """Count the queues of these files from now on."""
        if files.project is not None and files.objects is not None:
            self._urls = list(files.project.config.broker.url)
            self._rounds = CountRounds(QueueFigures(files.project, files.objects))

    def figures(
        self, time: float, slots: list[Mapping[str, Any]], edges: Mapping[str, float]
    ) -> dict[str, dict[str, Any]]:
        """Return the figures of all queues, as in a frame. ``time`` is in seconds of a monotonic clock."""
        if self._rounds is None:
            return {}
        self._rounds.add(slots)
        return self._rounds.figures.of(time, self._rounds.counts, slots, edges)

    def read(self, is_needed: Callable[[], bool]) -> bool:
        """Read the counts once a second, over one connection, until they are not needed or other files are counted.

        Return False if no broker answers, or if the files are not known yet.
        """
        rounds = self._rounds
        if rounds is None:
            return False

        def counted(counts: dict[str, Any], unknown: dict[str, str]) -> None:
            rounds.counted(counts, unknown)
            self.problem = next(iter(unknown.values()), None)
            if not is_needed() or self._rounds is not rounds:
                raise _Over

        for url in self._urls:
            try:
                queue_counts.watch(url, rounds.figures.asked, INTERVAL, counted, rounds.choose)
            except _Over:
                return True
            except RunnerError as error:
                rounds.counts, self.problem = {}, str(error)
        return False
