"""The comparison of the files with the broker, for the page. The comparison runs only on request or after a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.admin.reconciliation import compare
from runner.cli.plan_command import EXIT_MEANINGS, PATIENCE, plan_json, plan_summary
from runner.cli.temporary_broker import broker_for
from runner.config.project import Project, load_project
from runner.errors import EXIT_OK, BrokerUnreachable, ConfigError, RunnerError
from runner.topology.plan import EXIT_CHANGES, EXIT_UNCOMPARED

#: Seconds for which a plan is current. Other programs may change the broker at any time.
CURRENT_SECONDS = 10.0


@dataclass(frozen=True)
class PlanResult:
    """A plan, or the reason why there is none."""

    exit_code: int
    #: Seconds since the epoch, and the duration in seconds.
    at: float
    seconds: float
    #: The changes and remarks, as ``plan --json`` prints them. Empty after an error.
    plan: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    surplus: str = ""
    error: str = ""

    @property
    def meaning(self) -> str:
        """The meaning of the exit code in words."""
        if self.error and self.exit_code == ConfigError.exit_code:
            return "the files have errors"
        return EXIT_MEANINGS.get(self.exit_code, "the command failed")

    @property
    def sentence(self) -> str:
        """The result in words, with the number of changes of each kind."""
        if self.exit_code in (EXIT_OK, EXIT_UNCOMPARED):
            return _capitalized(self.summary)
        meaning = "the broker differs from the files" if self.exit_code == EXIT_CHANGES else self.meaning
        return _capitalized(f"{meaning}: {self.summary}" if self.summary else meaning)


class PlanComparison:
    """The latest plan of a folder. Any thread may call its methods."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        """``changed`` is called when a comparison begins or is complete."""
        self._folder, self._changed = folder, changed
        self._lock = threading.Lock()
        self._key: object = None
        self._is_asked = False
        #: The end of the latest comparison, in seconds of the monotonic clock.
        self._compared_at = float("-inf")
        self._thread: threading.Thread | None = None
        #: The result of the latest comparison, or None before the first one.
        self.result: PlanResult | None = None

    @property
    def is_running(self) -> bool:
        """True while a comparison is running."""
        return self._thread is not None and self._thread.is_alive()

    def ensure(self, key: object) -> None:
        """Compare unless this was done for ``key`` in the last ``CURRENT_SECONDS``.

        ``key`` stands for the state of the files and of the broker.
        """
        with self._lock:
            is_old = not self.is_running and time.monotonic() - self._compared_at > CURRENT_SECONDS
            if key != self._key or is_old:
                self._key = key
                self._begin()

    def ask(self) -> None:
        """Compare now."""
        with self._lock:
            self._begin()

    def wait(self) -> None:
        """Wait until no comparison is running."""
        if self._thread is not None:
            self._thread.join()

    def _begin(self) -> None:
        # A running comparison may have read the files before the change, so it is repeated.
        self._is_asked = True
        if not self.is_running:
            self._thread = threading.Thread(target=self._run, name="plan", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._is_asked:
                    self._thread = None
                    break
                self._is_asked = False
            self.result = _compared(self._folder)
            self._compared_at = time.monotonic()
        self._changed()


def _capitalized(text: str) -> str:
    # The rest of the text may contain names.
    return text[:1].upper() + text[1:]


def _compared(folder: Path) -> PlanResult:
    began = time.time()

    def result(code: int, **more: Any) -> PlanResult:
        return PlanResult(code, time.time(), time.time() - began, **more)

    try:
        project = _without_start(load_project(folder))
        with broker_for(project) as management_url:
            found = compare(project, management_url, PATIENCE)
    except BrokerUnreachable as error:
        # The remedy is about ``autostart``, which this comparison has turned off.
        return result(error.exit_code, error=str(error).partition(";")[0])
    except RunnerError as error:
        return result(error.exit_code, error=str(error))
    plan = found.plan
    return result(plan.exit_code, plan=plan_json(found), summary=plan_summary(plan), surplus=plan.surplus)


def _without_start(project: Project) -> Project:
    """Return the project with ``autostart`` off, because showing a page must not start a broker."""
    broker = project.config.broker.model_copy(update={"autostart": False})
    return replace(project, config=project.config.model_copy(update={"broker": broker}))
