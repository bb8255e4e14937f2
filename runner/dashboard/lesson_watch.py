"""The checks of a learner's files while the page Learn is open.

The page asks twice a second, and each save is checked.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from runner.dashboard.page_job import PageJob, PageJobs, TooManyJobs
from runner.errors import RunnerError
from runner.invocation import invocation
from runner.learn.classroom import exercise_folder
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import FILE, Exercise, exercises_in
from runner.learn.last_result import LastResult, fingerprint_of, is_watched, read_result
from runner.learn.proof import kills_broker
from runner.learn.workspace import FOLDER, PROGRESS, Record, Workspace

#: Seconds without a request after which no page is open any more, and the classroom's broker is stopped.
IDLE_SECONDS = 60.0
#: Seconds between two checks of a broker that another command has started.
BROKER_INTERVAL = 2.0
#: Exit codes of a check that has stored its result: passed and failed.
_CHECKED = (0, 1)


@dataclass(frozen=True)
class LessonState:
    """The state of an exercise for the page."""

    record: Record
    is_started: bool
    last: LastResult | None = None
    job: PageJob | None = None
    #: True if the files have changed since the last check.
    is_outdated: bool = False
    #: True if the watch mode in a terminal checks the files.
    is_watched: bool = False
    #: A text that changes with everything else.
    version: str = ""

    @property
    def is_checking(self) -> bool:
        """True while a check is running."""
        return self.job is not None and self.job.is_running

    @property
    def failure(self) -> list[str]:
        """The output of the last check if it could not run."""
        if self.job is None or self.job.is_running:
            return []
        found = self.job.as_json()
        has_result = self.last is not None and self.last.at >= self.job.began
        return [] if found["exit_code"] in _CHECKED or has_result else found["lines"]


@dataclass
class _Seen:
    """The findings of the previous request about an exercise."""

    fingerprint: str = ""
    #: The files for which a check was started. A check that cannot run is not repeated.
    started_for: str = ""
    job: PageJob | None = None


class LessonWatch:
    """The exercises and the checks of a project. Any thread may call its methods."""

    def __init__(self, folder: Path, jobs: PageJobs) -> None:
        self._folder, self._jobs = folder, jobs
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._exercises: tuple[object, list[Exercise]] = (None, [])
        self._broker = KeptBroker(Workspace(folder / FOLDER, reads_progress=False).classroom)

    @property
    def exercises(self) -> list[Exercise]:
        """All exercises. Raises RunnerError if there are none, or if one of them has an error."""
        folder = exercise_folder(self._folder)
        stamp = [(path, path.stat().st_mtime_ns) for path in sorted(folder.glob(f"*/{FILE}"))]
        with self._lock:
            if self._exercises[0] != stamp:
                self._exercises = (stamp, exercises_in(folder))
            return self._exercises[1]

    @property
    def workspace(self) -> Workspace:
        """The learner's folder with the progress as it is now. Raises RunnerError."""
        return Workspace(self._folder / FOLDER)

    def state(self, exercise: Exercise) -> LessonState:
        """Return the state of an exercise without starting a check. Raises RunnerError."""
        workspace = self.workspace
        folder = workspace.path(exercise)
        record = workspace.progress.of(exercise)
        if not folder.is_dir():
            return LessonState(record, is_started=False, version=_stamp_of(workspace))
        now, last = fingerprint_of(folder), read_result(workspace.folder, exercise.name)
        with self._lock:
            job = self._seen.setdefault(exercise.name, _Seen()).job
        is_outdated = last.fingerprint != now if last is not None else now != fingerprint_of(exercise.starter)
        watched = is_watched(workspace.folder)
        parts = (now, job and job.id, job and job.is_running, last and last.at, watched, _stamp_of(workspace))
        return LessonState(record, True, last, job, is_outdated, watched, "|".join(map(str, parts)))

    def watch(self, exercise: Exercise, *, has_predicted: bool) -> LessonState:
        """Return the state of an exercise, after starting a check if the files were saved. Raises RunnerError."""
        state = self.state(exercise)
        if not state.is_started or not has_predicted or state.is_watched:
            return state
        if (state.record.passed_at is None or state.is_outdated) and not kills_broker(exercise):
            self._broker.keep()
        folder = self.workspace.path(exercise)
        now = fingerprint_of(folder)
        with self._lock:
            seen = self._seen.setdefault(exercise.name, _Seen())
            # Two reads with the same result show that no file is half-written.
            is_saved = now == seen.fingerprint and now != seen.started_for
            seen.fingerprint = now
        if is_saved and state.is_outdated and not state.is_checking:
            self.check(exercise)
            return self.state(exercise)
        return state

    def check(self, exercise: Exercise) -> PageJob | None:
        """Start a check unless one is running. Return its job, or None if too many commands are running."""
        if kills_broker(exercise):
            # Only the command that has started the broker may kill it.
            self._broker.stop()
        else:
            self._broker.keep()
        arguments = ["learn", "check", str(exercise.number)]
        with self._lock:
            seen = self._seen.setdefault(exercise.name, _Seen())
            if seen.job is None or not seen.job.is_running:
                seen.started_for = fingerprint_of(self._folder / FOLDER / exercise.name)
                with contextlib.suppress(TooManyJobs):
                    seen.job = self._jobs.start(arguments, invocation(*arguments))
                    return seen.job
                return None
            return seen.job

    def close(self) -> None:
        """Stop the classroom's broker."""
        self._broker.stop()


class KeptBroker:
    """The classroom's broker, which keeps running while a page is open, so that each check can begin at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._condition = threading.Condition()
        self._until = 0.0
        self._thread: threading.Thread | None = None

    def keep(self) -> None:
        """Start the broker if it is not running, and keep it for ``IDLE_SECONDS``."""
        with self._condition:
            self._until = time.monotonic() + IDLE_SECONDS
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="classroom", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop the broker, and wait until it has stopped."""
        with self._condition:
            self._until = 0.0
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        # A check reports why no broker can be started.
        with contextlib.suppress(RunnerError), ClassroomBroker(self._folder) as broker:
            while True:
                with self._condition:
                    if time.monotonic() >= self._until:
                        return
                    self._condition.wait(BROKER_INTERVAL)
                if not broker.is_own:
                    broker.revive()


def _stamp_of(workspace: Workspace) -> str:
    try:
        return str((workspace.folder / PROGRESS).stat().st_mtime_ns)
    except OSError:
        return ""
