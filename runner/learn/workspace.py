"""The learner's folder: a copy of each exercise, and the progress."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from runner.bounded_file import read_bounded
from runner.errors import RunnerError
from runner.escape import one_line
from runner.learn.exercise import README, Exercise
from runner.learn.last_result import LastResult, write_result
from runner.learn.verdict import ExerciseResult, Verdict

#: The folder of the learner's copies, in the project's folder.
FOLDER = "my-work"
#: The file with the progress, and the folder of the classroom's broker.
PROGRESS, CLASSROOM = "progress.json", ".classroom"
_MAX_BYTES = 1024 * 1024


@dataclass
class Record:
    """The progress in one exercise."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    #: The answers to the questions, or None before an answer.
    prediction: str | None = None
    review: str | None = None
    #: The number of checks, the number of hints shown, and True if the solution was shown.
    checks: int = 0
    hints: int = 0
    has_seen_solution: bool = False
    #: The best points so far, and their maximum.
    points: int = 0
    of: int = 0
    #: The id of the first task that the last check did not pass.
    stuck_at: str | None = None
    #: Seconds since the epoch.
    started_at: float | None = None
    passed_at: float | None = None


_CURRENT, _RECORDS = TypeAdapter(str | None), TypeAdapter(dict[str, Record])


@dataclass
class Progress:
    """The progress in all exercises."""

    current: str | None = None
    exercises: dict[str, Record] = field(default_factory=dict)

    def of(self, exercise: Exercise) -> Record:
        """Return the record of an exercise, which is created if necessary."""
        return self.exercises.setdefault(exercise.name, Record())


class Workspace:
    """The learner's copies in a folder such as ``my-work``."""

    def __init__(self, folder: Path, *, reads_progress: bool = True) -> None:
        self.folder = folder
        self.progress = read_progress(folder) if reads_progress else Progress()

    @property
    def classroom(self) -> Path:
        """The folder of the classroom's broker."""
        return self.folder / CLASSROOM

    def path(self, exercise: Exercise) -> Path:
        """Return the folder of the learner's copy."""
        return self.folder / exercise.name

    def start(self, exercise: Exercise) -> Path:
        """Make this exercise the current one, and create the copy if it does not exist. Return the copy's folder."""
        target = self.path(exercise)
        if not target.exists():
            self._copy(exercise)
        with self.changed(exercise) as record:
            record.started_at = record.started_at or time.time()
            self.progress.current = exercise.name
        return target

    def reset(self, exercise: Exercise) -> Path | None:
        """Restore the original files. Return the folder with the replaced files, or None if no file was replaced."""
        target = self.path(exercise)
        old = None
        if target.exists():
            kept = self.folder / ".old"
            kept.mkdir(parents=True, exist_ok=True)
            old = Path(tempfile.mkdtemp(prefix=f"{exercise.name}-{time.strftime('%Y%m%d-%H%M%S')}-", dir=kept))
            target.rename(old)
        self._copy(exercise)
        return old

    def note(self, exercise: Exercise, result: ExerciseResult, fingerprint: str = "") -> None:
        """Record the result of a check. An error of the check itself does not change the progress.

        ``fingerprint`` stands for the checked files, or is empty if they are unknown.
        """
        write_result(self.folder, LastResult(result, fingerprint, time.time()))
        if result.verdict is Verdict.ERROR:
            return
        with self.changed(exercise) as record:
            record.checks += 1
            record.points, record.of = max(record.points, result.points), result.of
            problem = result.first_problem
            record.stuck_at = None if problem is None else problem.task
            if problem is None and record.passed_at is None:
                record.passed_at = time.time()

    def chosen(self, exercises: Sequence[Exercise]) -> Exercise:
        """Return the current exercise, or the first one that has not been passed."""
        for one in exercises:
            if one.name == self.progress.current:
                return one
        return self.following(exercises) or exercises[-1]

    def following(self, exercises: Sequence[Exercise]) -> Exercise | None:
        """Return the first exercise that has not been passed, or None if all have been passed."""
        return next((one for one in exercises if self.progress.of(one).passed_at is None), None)

    @contextlib.contextmanager
    def changed(self, exercise: Exercise) -> Iterator[Record]:
        """Yield the record of an exercise to change, and write it afterwards.

        The file is read again first, because a command in another terminal may have written it.
        """
        self.progress = read_progress(self.folder)
        yield self.progress.of(exercise)
        self.save()

    def save(self) -> None:
        """Write the progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{PROGRESS}.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(self.progress), indent=2) + "\n", "utf-8")
        temporary.replace(self.folder / PROGRESS)

    def _copy(self, exercise: Exercise) -> None:
        target = self.path(exercise)
        shutil.copytree(exercise.starter, target, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(exercise.folder / README, target / README)


def read_progress(folder: Path) -> Progress:
    """Return the progress in a folder. Raises RunnerError if the file cannot be read."""
    path = folder / PROGRESS
    try:
        data = json.loads(read_bounded(path, _MAX_BYTES))
        # Only from JSON, a strict model accepts a mapping.
        records = _RECORDS.validate_json(json.dumps(data["exercises"]))
        return Progress(_CURRENT.validate_python(data["current"]), records)
    except FileNotFoundError:
        return Progress()
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = str(error)
    raise RunnerError(f"{path}: not a progress file, {one_line(problem)}; allowed: a file that learn has written")
