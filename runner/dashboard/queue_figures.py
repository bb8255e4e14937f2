"""The figures of each queue in a frame, from the counts of the queues and the counters of the workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from runner.admin.queue_counts import QueueCounts
from runner.config.project import Project
from runner.dashboard.page_text import rate
from runner.dashboard.sample_window import SampleWindow
from runner.queues.overview import names_of, parts_of
from runner.topology.model import Objects
from runner.topology.offline_routing import alternates_of

#: Seconds for which a dead-letter queue must have fewer messages before the lower number is shown.
READ_SECONDS = 3.0
#: The growth of a queue, in messages per second, from which it is shown.
LEAST_GROWTH = 0.5

Counts = Mapping[str, QueueCounts | None]


class QueueFigures:
    """The figures of all queues of one topology."""

    def __init__(self, project: Project, objects: Objects) -> None:
        self._objects = objects
        self._generated = objects.generated
        self.names = [name for name in names_of(project) if name not in self._dead_letter_queues()]
        #: The queues whose counts the broker must report. Each retry queue and dead-letter queue has an owner.
        self.owners: dict[str, str | None] = {
            part: name for name in self.names for part in parts_of(name, objects) if part not in self.names
        }
        self.owners |= dict.fromkeys(self.names)
        self.asked = list(self.owners)
        self._consumers: dict[str, list[str]] = defaultdict(list)
        for service, settings in project.config.services.items():
            for queue in settings.consumes:
                self._consumers[queue].append(service)
        alternates = set(alternates_of(objects).values())
        self._unrouted = {one.destination for one in objects.bindings if one.source in alternates}
        self._history: dict[str, SampleWindow[int]] = defaultdict(SampleWindow)
        #: The shown number of messages in each dead-letter queue, and the last time at which the queue had as many.
        self._dead_counts: dict[str, tuple[int, float]] = {}

    def of(
        self, time: float, counts: Counts, slots: Sequence[Mapping[str, Any]], edges: Mapping[str, float]
    ) -> dict[str, dict[str, Any]]:
        """Return the figures of each queue. A figure is None if the broker did not report it.

        ``time`` is in seconds of a monotonic clock. ``edges`` contains the rate of each edge per second.
        """
        in_progress = _in_progress(slots)
        return {name: self._figures(name, time, counts, in_progress.get(name, 0), edges) for name in self.names}

    def _figures(
        self, name: str, time: float, counts: Counts, unacked: int, edges: Mapping[str, float]
    ) -> dict[str, Any]:
        own = counts.get(name)
        retry = self._objects.retry_delays.get(name)
        ready = None if own is None else own.messages
        services = self._consumers.get(name, [])
        growth = self._growth(name, time, ready)
        figures: dict[str, Any] = {
            "ready": ready,
            "consumers": None if own is None else own.consumers,
            "unacked": unacked,
            "retry": None if retry is None else _total([wait for _, wait in retry.steps], counts),
            "dead": None if retry is None else self._dead(retry.dead_letter, time, counts),
            "growth_rate": growth,
            "growth": f"{rate(growth)}/s" if growth is not None and growth >= LEAST_GROWTH else 0,
            "rate": f"{rate(sum(edges.get(f'queue {name}>service {one}', 0.0) for one in services))}/s",
        }
        if name in counts and own is None:
            figures["missing"] = True
        if services:
            figures["consumed_by"] = services
        elif name in self._unrouted:
            figures["unrouted"] = ready
        return figures

    def _dead(self, name: str, time: float, counts: Counts) -> int | None:
        """Return the number of messages in a dead-letter queue. A lower number is shown READ_SECONDS later.

        While a page or a command reads the queue, its messages are not ready, although none is removed.
        """
        total = _total([name], counts)
        if total is None:
            return None
        shown, lower_since = self._dead_counts.get(name, (total, time))
        if total >= shown or name in self._consumers or time - lower_since >= READ_SECONDS:
            # A number that is not lower than the shown number restarts the measured time.
            shown, lower_since = total, time
        self._dead_counts[name] = (shown, lower_since)
        return shown

    def _growth(self, name: str, time: float, ready: int | None) -> float | None:
        if ready is None:
            self._history[name].clear()
            return None
        span, before = self._history[name].add(time, ready)
        return round((ready - before) / span, 1) if span >= 1 else 0.0

    def _dead_letter_queues(self) -> set[str]:
        return {retry.dead_letter for retry in self._objects.retry_delays.values()}


def _total(names: Sequence[str], counts: Counts) -> int | None:
    """Return the number of messages in queues, or None if a queue did not answer. A missing queue has none."""
    if any(name not in counts for name in names):
        return None
    return sum(found.messages for name in names if (found := counts[name]) is not None)


def _in_progress(slots: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of unacked messages of each queue whose attempts have begun."""
    found: dict[str, int] = defaultdict(int)
    for slot in slots:
        if slot.get("pid") is None:
            continue
        for queue, count in (slot.get("unacked") or {}).items():
            found[queue] += count
    return found
