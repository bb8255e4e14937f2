"""The dashboard's web server, and the objects that all pages share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flask import current_app

from runner.dashboard.collector import Collector
from runner.dashboard.dead_letter_cache import DeadLetterCache
from runner.dashboard.file_check import FileCheck
from runner.dashboard.lesson_watch import LessonWatch
from runner.dashboard.page_job import PageJob, PageJobs
from runner.dashboard.page_text import masked
from runner.dashboard.plan_comparison import PlanComparison
from runner.dashboard.slot_log import SlotLogs
from runner.dashboard.system_sample import SystemSampler
from runner.http import serve as serve_http
from runner.http.request_checks import LOCAL

if TYPE_CHECKING:
    from runner import Context

#: The number of threads that render pages.
THREADS = 8
#: The maximum size of a request body in bytes, which limits the edited copy of a dead letter.
MAX_BODY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class DashboardSettings:
    """The settings of the dashboard."""

    host: str = "127.0.0.1"
    port: int = 8080
    #: The token that a browser must present, or an empty string if every client may use the page.
    token: str = ""
    allowed_hosts: tuple[str, ...] = LOCAL
    #: True if e-mail addresses are masked in all pages.
    mask_personal_data: bool = False


class Dashboard:
    """The objects that all pages share."""

    def __init__(self, folder: Path, settings: DashboardSettings, service: str = "dashboard") -> None:
        """``service`` is the name of the service that serves the page."""
        self.folder, self.settings, self.service = folder, settings, service
        self.collector = Collector(folder, masked if settings.mask_personal_data else lambda value: value)
        self.sampler = SystemSampler(folder)
        self.jobs = PageJobs(folder)
        self.file_check = FileCheck(folder, lambda: self.collector.bump("files"))
        self.plan = PlanComparison(folder, lambda: self.collector.bump("plan"))
        self.lessons = LessonWatch(folder, self.jobs)
        self.logs = SlotLogs(folder)
        self.dead_letters = DeadLetterCache(
            folder, self._dead_letters_version, self.moves_dead_letters, ended=lambda: self.jobs.finished
        )

    def moves_dead_letters(self) -> bool:
        """Return True while a command of this page replays or discards dead letters."""
        return any(job.arguments[0] == "dlq" for job in self.jobs.running())

    def _dead_letters_version(self) -> object:
        return self.collector.current()["versions"].get("dead_letters"), self.jobs.finished

    def shown(self, job: PageJob) -> dict[str, Any]:
        """Return the state of a job for the page, without personal data if it must be masked."""
        found = job.as_json()
        return {**found, "lines": masked(found["lines"])} if self.settings.mask_personal_data else found

    def close(self) -> None:
        """Stop all threads and the classroom's broker, and interrupt the commands that are still running."""
        self.collector.close()
        self.jobs.close()
        self.lessons.close()


def current_dashboard() -> Dashboard:
    """Return the dashboard of the current request."""
    return cast(Dashboard, current_app.extensions["dashboard"])


def serve(context: Context, settings: DashboardSettings) -> None:
    """Serve the page until the service must stop. Raises PluginError or RunnerError if the server cannot listen."""
    from runner.dashboard.web_app import create_app

    dashboard = Dashboard(Path.cwd(), settings, context.service)
    try:
        serve_http(
            create_app(dashboard), context, host=settings.host, port=settings.port, threads=THREADS,
            allowed_hosts=settings.allowed_hosts, max_body_bytes=MAX_BODY_BYTES, needs_broker=False,
        )  # fmt: skip
    finally:
        dashboard.close()
