"""An overview of the queues in topology.yaml, which combines all information about each queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.admin.management import Management
from runner.admin.management_api import ManagementError
from runner.admin.queue_counts import QueueCounts
from runner.admin.statistics import Statistics, StatisticsReader
from runner.config.project import Project
from runner.queues.backlog import Age, Sample, arrivals, is_growing, oldest_age
from runner.queues.target import unacked_of
from runner.topology.compile import compile_topology
from runner.topology.model import Objects

#: The texts in the NOTE column.
MISSING, NO_CONSUMER, GROWING = "not on the broker", "no consumer", "growing"
#: The maximum number of samples that this program keeps for each queue.
KEPT = 600


@dataclass(frozen=True)
class Backlog:
    """The counts of a queue that is in topology.yaml or consumed by a service. Unknown values are None."""

    name: str
    ready: int | None
    unacked: int | None
    consumers: int | None
    #: Messages per second.
    arriving: float | None
    leaving: float | None
    oldest: Age | None
    #: The number of messages in the retry queues.
    retrying: int | None
    #: The number of dead letters. None also means that the queue has no dead-letter queue.
    dead: int | None
    has_dead_letters: bool
    services: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Others:
    """The queues of the vhost that are not in the overview. The number of messages is None if unknown."""

    count: int
    messages: int | None


class Overview:
    """The queues of a project on a broker, sampled at each call of ``update``."""

    def __init__(self, project: Project, management: Management, names: Sequence[str] = ()) -> None:
        """``names`` are the queues to show. If there are no names, all queues are shown."""
        self._objects = compile_topology(project.topology, project.consumed)
        known = names_of(project)
        self._names = [one for one in known if not names or one in names]
        self._all = {one.name for one in self._objects.queues} | set(known)
        self._services = {
            name: tuple(key for key, one in project.config.services.items() if name in one.consumes) for name in known
        }
        self._statistician = StatisticsReader(management)
        self._own: dict[str, deque[Sample]] = {name: deque(maxlen=KEPT) for name in self._names}
        #: The reason why the HTTP API reports no statistics, or None if it reports statistics.
        self.problem: str | None = None
        #: The other queues of the vhost, or None if the HTTP API reports no statistics.
        self.others: Others | None = None

    @property
    def queues(self) -> list[str]:
        """All queues whose counts are needed: the shown queues, and their retry queues and dead-letter queues."""
        return list(dict.fromkeys(part for name in self._names for part in (name, *parts_of(name, self._objects))))

    def update(self, counts: Mapping[str, QueueCounts | None], unknown: Mapping[str, str]) -> list[Backlog]:
        """Return an entry for each queue, from new counts.

        ``unknown`` contains the reason for each queue that does not answer.
        """
        now = time.time()
        found = self._read(now)
        return [self._entry(name, counts, unknown, found.get(name), now) for name in self._names]

    def _read(self, now: float) -> dict[str, Statistics]:
        try:
            found = self._statistician.read(now)
        except ManagementError as error:
            self.problem, self.others = str(error), None
            return {}
        self.problem = None
        others = [one.messages for name, one in found.items() if name not in self._all]
        known = [one for one in others if one is not None]
        self.others = Others(len(others), sum(known) if len(known) == len(others) else None)
        return found

    def _entry(
        self,
        name: str,
        counts: Mapping[str, QueueCounts | None],
        unknown: Mapping[str, str],
        statistics: Statistics | None,
        now: float,
    ) -> Backlog:
        own, said = counts.get(name), statistics or Statistics()
        ready, consumers = (None, None) if own is None else (own.messages, own.consumers)
        samples = self._samples(name, own, said, now)
        is_idle = consumers == 0
        arriving, leaving = said.published, said.removed
        if is_idle and (counted := arrivals(tuple(self._own[name]) or samples)) is not None:
            # This rate is exact, because no message leaves a queue without a consumer. The statistics are a few seconds
            # old.
            arriving, leaving = counted, 0.0
        retry = self._objects.retry_delays.get(name)
        dead = None if retry is None else _held(retry.dead_letter, counts)
        retries = [_held(wait, counts) for _, wait in retry.steps] if retry is not None else []
        retrying = None if None in retries else sum(one for one in retries if one is not None)
        notes = []
        if name in unknown:
            notes.append(unknown[name])
        elif own is None:
            notes.append(MISSING)
        if ready and is_idle:
            notes.append(NO_CONSUMER)
        if ready and is_growing(samples):
            notes.append(GROWING)
        return Backlog(
            name, ready, unacked_of(said.unacked, consumers), consumers, arriving, leaving,
            oldest_age(samples, now, is_consumed=not is_idle) if ready else None, retrying, dead, retry is not None,
            self._services[name], tuple(notes),
        )  # fmt: skip

    def _samples(self, name: str, own: QueueCounts | None, said: Statistics, now: float) -> list[Sample]:
        """Return samples from the last few minutes, including a current sample."""
        if own is None:
            self._own[name].clear()
            return []
        mine = self._own[name]
        if own.consumers and mine and mine[-1].delivered is not None:
            mine.clear()  # The samples are from a time without consumers.
        # A queue without a consumer delivers no messages.
        present = Sample(now, own.messages, None if own.consumers else 0)
        mine.append(present)
        history = [Sample(*one) for one in said.history]
        if len(history) < 2:
            return list(mine)
        if own.consumers:
            return history
        return [*history, Sample(now, own.messages, history[-1].delivered)]


def names_of(project: Project) -> list[str]:
    """Return the names of all queues that are in topology.yaml or consumed by a service."""
    return [*project.topology.queues, *sorted(project.consumed - project.topology.queues.keys())]


def parts_of(name: str, objects: Objects) -> tuple[str, ...]:
    """Return the retry queues and the dead-letter queue of a queue."""
    retry = objects.retry_delays.get(name)
    return () if retry is None else (*(wait for _, wait in retry.steps), retry.dead_letter)


def _held(name: str, counts: Mapping[str, QueueCounts | None]) -> int | None:
    """Return the number of ready messages: 0 if the queue does not exist, or None if the queue does not answer."""
    if name not in counts:
        return None
    found = counts[name]
    return 0 if found is None else found.messages
