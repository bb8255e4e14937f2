"""The exercises and the learner's folder that one command uses."""

from __future__ import annotations

from pathlib import Path

from runner.errors import RunnerError
from runner.invocation import SOURCE
from runner.learn.exercise import Exercise, exercises_in, is_exercise_name, named
from runner.learn.lesson import Lesson
from runner.learn.workspace import FOLDER, PROGRESS, Workspace

#: The name of the folder with the exercises, in a project, in a checkout, and in an installation.
EXERCISES = "exercises"


def exercise_folder(project: Path) -> Path:
    """Return the folder with the exercises: the project's own, or the shipped ones."""
    for folder in (project / EXERCISES, Path(__file__).parent / EXERCISES, SOURCE / EXERCISES):
        if folder.is_dir():
            return folder
    raise RunnerError(f"{project / EXERCISES}: does not exist; allowed: a folder that contains exercises")


def submission(folder: Path) -> Path:
    """Return the folder with the exercises of a submission, which is ``folder`` or its ``my-work``.

    Raises RunnerError if neither has an exercise, so that a wrong folder does not get 0 points.
    """
    for place in (folder, folder / FOLDER):
        if (place / PROGRESS).exists() or any(is_exercise_name(one.name) for one in place.glob("*/")):
            return place
    raise RunnerError(f"{folder}: contains no exercise; allowed: a student's {FOLDER}, or the folder that contains it")


class Classroom:
    """The exercises and the learner's folder of one command."""

    def __init__(self, project: Path, work: Path | None = None) -> None:
        self.exercises = exercises_in(exercise_folder(project))
        #: The learner's folder. The progress in a submission is only a claim, so it is not read.
        self.workspace = Workspace(project / FOLDER) if work is None else Workspace(work, reads_progress=False)

    def exercise(self, name: str | None) -> Exercise:
        """Return the named exercise, or the current one."""
        return self.workspace.chosen(self.exercises) if name is None else named(self.exercises, name)

    def lesson(self, *, is_large: bool = False) -> Lesson:
        """Return the watch mode."""
        return Lesson(self.exercises, self.workspace, is_large=is_large)
