"""A sample of the running system for programs that read the metrics at intervals, while no page needs to be open."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.admin.queue_counts import look
from runner.config.project import Project
from runner.dashboard.page_files import RunningFiles, read_applied, read_files, stamp_of
from runner.dashboard.queue_figures import Counts, QueueFigures
from runner.errors import RunnerError
from runner.supervisor.control.client import watch

#: Seconds within which the broker must report the counts of all queues.
COUNT_TIMEOUT = 2.0
#: Seconds for which a sample serves further requests, so that many readers cost as much as one.
LIFETIME = 1.0


@dataclass(frozen=True)
class SystemSample:
    """The state of the system at one time."""

    #: The supervisor's snapshot, or None if no supervisor answers.
    snapshot: Mapping[str, Any] | None = None
    is_broker_up: bool = False
    #: The figures of each queue, as in a frame.
    queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: For each running service, the queues that it consumes.
    consumed: Mapping[str, list[str]] = field(default_factory=dict)


class SystemSampler:
    """The latest sample of a system. Any thread may ask for it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._taken = -LIFETIME
        self._sample = SystemSample()
        self._files = RunningFiles()
        self._figures: QueueFigures | None = None
        self._stamp: tuple[object, ...] = ()
        #: The id of the last timeline entry that was read. A reload after it changes the files.
        self._entry = 0

    def sample(self) -> SystemSample:
        """Return a sample that is at most ``LIFETIME`` seconds old."""
        with self._lock:
            if self._clock() - self._taken >= LIFETIME:
                self._sample = self._take()
                self._taken = self._clock()
            return self._sample

    def _take(self) -> SystemSample:
        snapshot = _snapshot(self._folder)
        self._refresh(snapshot)
        project, figures = self._files.project, self._figures
        if project is None or figures is None:
            return SystemSample(snapshot)
        counts, is_up = _count(project, figures.asked)
        slots = [] if snapshot is None else snapshot["slots"]
        consumed = {name: list(one.consumes) for name, one in project.config.services.items() if one.consumes}
        return SystemSample(snapshot, is_up, figures.of(time.monotonic(), counts, slots, {}), consumed)

    def _refresh(self, snapshot: Mapping[str, Any] | None) -> None:
        """Read the files that the supervisor has applied, if they may have changed.

        Without a copy of these files, read the files of the project on first use, after a reload, and as long as they
        have errors.
        """
        entries = [] if snapshot is None else snapshot["timeline"]
        is_reloaded = any(one["kind"] == "reloaded" and one["id"] > self._entry for one in entries)
        self._entry = entries[-1]["id"] if entries else self._entry
        stamp = stamp_of(self._folder)
        if self._figures is not None and stamp == self._stamp and not is_reloaded:
            return
        self._stamp = stamp
        files = read_applied(self._folder)
        if files.project is None and (self._figures is None or is_reloaded):
            files = read_files(self._folder)
        if files.project is not None and files.objects is not None:
            self._files, self._figures = files, QueueFigures(files.project, files.objects)


def _snapshot(folder: Path) -> Mapping[str, Any] | None:
    with contextlib.suppress(RunnerError), contextlib.closing(watch(folder)) as snapshots:
        return next(snapshots, None)
    return None


def _count(project: Project, queues: list[str]) -> tuple[Counts, bool]:
    """Return the counts of queues, and True if the broker answers in time."""
    deadline = time.monotonic() + COUNT_TIMEOUT
    for url in project.config.broker.url:
        if (left := deadline - time.monotonic()) <= 0:
            break
        unknown: dict[str, str] = {}
        with contextlib.suppress(RunnerError):
            return look([url], queues, unknown, left)[1], True
    return {}, False
