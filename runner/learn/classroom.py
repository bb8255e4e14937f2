"""The exercises and the learner's folder of one command."""

from __future__ import annotations

from pathlib import Path

from runner.errors import RunnerError
from runner.invocation import SOURCE
from runner.learn.exercise import Exercise, exercises_in, named
from runner.learn.lesson import Lesson
from runner.learn.workspace import FOLDER, Workspace

#: The name of the folder with the exercises, in a project, in a checkout, and in an installation.
EXERCISES = "exercises"


def exercise_folder(project: Path) -> Path:
    """Return the folder with the exercises: the project's own, or the shipped ones."""
    for folder in (project / EXERCISES, Path(__file__).parent / EXERCISES, SOURCE / EXERCISES):
        if folder.is_dir():
            return folder
    raise RunnerError(f"{project / EXERCISES}: does not exist; allowed: a folder with exercises")


class Classroom:
    """The exercises and the learner's folder of one command."""

    def __init__(self, project: Path, work: Path | None = None) -> None:
        self.exercises = exercises_in(exercise_folder(project))
        self.workspace = Workspace(work or project / FOLDER)

    def exercise(self, name: str | None) -> Exercise:
        """Return the named exercise, or the current one."""
        return self.workspace.chosen(self.exercises) if name is None else named(self.exercises, name)

    def lesson(self, *, is_large: bool = False) -> Lesson:
        """Return the watch mode."""
        return Lesson(self.exercises, self.workspace, is_large=is_large)
