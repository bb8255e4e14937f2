"""The event history for the pages about orders, and the routes of the running topology."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, TimeoutError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.database_address import read_quickly
from runner.config.project import Project
from runner.errors import ConfigError, RunnerError
from runner.history.access import opened_project
from runner.history.event_routes import EventRoutes
from runner.history.reader import reading
from runner.history.records import Read
from runner.inspection.checked_project import with_recorders
from runner.messages import EVENTS

if TYPE_CHECKING:
    from runner.dashboard.collector import Collector

#: Seconds that a page waits for the check of the plugins. The check takes longer only on a busy machine.
PATIENCE = 1.0


@dataclass(frozen=True)
class Recording:
    """A project whose plugins are checked, and the routes of its events."""

    project: Project
    routes: EventRoutes

    @property
    def has_events(self) -> bool:
        """True if a service records events."""
        return bool(self.project.recorders(EVENTS))

    @property
    def has_attempts(self) -> bool:
        """True if a service records attempts."""
        return self.project.attempts_queue is not None


class OrderReader:
    """The running project with the services that record events, whose plugins are checked once after each reload."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._lock = threading.Lock()
        self._known: tuple[Project, Future[Recording]] | None = None

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """Open the event history. Raises HistoryOff, NothingRecorded, ConfigError, StoreError and StoreUnreachable."""
        checked, project = self._checked(), self._project()
        with ExitStack() as stack:
            # Most projects have one database, which can be read before the plugins are checked.
            url = read_quickly(project.folder)
            read = None if url is None else stack.enter_context(reading(url, project.folder))
            yield read or stack.enter_context(opened_project(checked.result().project))

    @property
    def has_events(self) -> bool:
        """True if a service records events, or if a plugin cannot be loaded, so that this is unknown."""
        try:
            return self._checked().result().has_events
        except RunnerError:
            return True

    def recording(self, patience: float | None = PATIENCE) -> Recording | None:
        """Return the routes, or None if the check of the plugins takes longer than ``patience`` seconds.

        Raises ConfigError for a plugin that cannot be loaded.
        """
        try:
            return self._checked().result(patience)
        except TimeoutError:
            return None

    def _project(self) -> Project:
        files = self._collector.files
        if files.project is None:
            raise ConfigError([f"{one['place']}: {one['text']}" for one in files.problems])
        return files.project

    def _checked(self) -> Future[Recording]:
        project = self._project()
        with self._lock:
            if self._known is None or self._known[0] is not project:
                self._known = (project, Future())
                work = threading.Thread(target=_check, args=self._known, name="recorders", daemon=True)
                work.start()
            return self._known[1]


def _check(project: Project, answer: Future[Recording]) -> None:
    try:
        found = with_recorders(project)
        answer.set_result(Recording(found, EventRoutes(found)))
    except Exception as error:  # noqa: BLE001 - each page that needs the answer raises the error
        answer.set_exception(error)
