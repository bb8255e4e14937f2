"""An exercise: its text, its tasks, and the folder with its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runner.bounded_file import read_bounded
from runner.config.document import MAX_BYTES, Document
from runner.config.validation import note, validate
from runner.config.value import Duration
from runner.errors import ConfigError, RunnerError
from runner.learn.expectation import Expectation
from runner.learn.given_step import GivenStep

FILE = "exercise.yaml"
README, STARTER, SOLUTION, WRONG = "README.md", "starter", "solution", "wrong"
_NAME = re.compile(r"(\d{2})-[a-z0-9-]+")


class Question(BaseModel):
    """A multiple-choice question, which is never graded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str = Field(min_length=1, description="The question.")
    choices: tuple[str, ...] = Field(min_length=2, max_length=6, description="The answers to choose from.")
    answer: str = Field(description="The correct choice, in exactly the same words.")

    @model_validator(mode="after")
    def _has_answer(self) -> Question:
        if self.answer not in self.choices:
            raise ValueError("the answer is not one of the choices; allowed: the exact text of a choice")
        return self


class Sentence(BaseModel):
    """A sentence about a particular mistake or result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    saw: tuple[Expectation, ...] = Field(
        description="The facts that the sentence is about. The sentence is printed only if all of them were observed."
    )
    say: str = Field(
        min_length=1,
        description="The sentence. {saw} is replaced with the observed value of the first expectation under saw.",
    )
    look: tuple[str, ...] = Field(
        (), description="The file that the sentence is about, and the keys that lead to the place in the file."
    )

    @field_validator("saw", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @property
    def is_about_errors(self) -> bool:
        """True if the sentence is about a configuration error."""
        return any(one.config_error is not None for one in self.saw)


class Task(BaseModel):
    """One task of an exercise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="A short name.")
    title: str = Field(min_length=1, description="The goal in one sentence.")
    points: int = Field(1, ge=1, le=100, description="The points for the task.")
    given: tuple[GivenStep, ...] = Field((), description="The steps, which are performed in this order.")
    expect: tuple[Expectation, ...] = Field(
        min_length=1, description="The expectations, which must all be met after the steps."
    )
    within: Duration = Field(5.0, description="The maximum time until all expectations are met.")
    stays_for: Duration = Field(0.0, description="The time for which all expectations must remain met.")
    never: tuple[Expectation, ...] = Field((), description="Expectations that must not be met at any moment.")
    when_wrong: tuple[Sentence, ...] = Field(
        (), description="Sentences about particular mistakes; the first match is printed."
    )
    when_right: tuple[Sentence, ...] = Field(
        (),
        description="Sentences about a passed task, with an observed number; the first match is printed.",
    )
    look: tuple[str, ...] = Field(
        ("topology.yaml",), description="The file to look at, and the keys that lead to the place in the file."
    )

    @property
    def needs_no_system(self) -> bool:
        """True if the result of the task depends only on the files."""
        return not self.given and all(one.needs_no_system for one in (*self.expect, *self.never))

    @property
    def kills_broker(self) -> bool:
        """True if a step kills the broker, which all other checks use too."""
        return any(one.fault is not None and one.fault.broker_restart is not None for one in self.given)


class ExerciseFile(BaseModel):
    """The file ``exercise.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1, description="The title.")
    level: Literal["worked", "completion", "goal", "find"] = Field(
        description="worked (change one thing), completion (fill in the blanks), goal (only the goal is given) or"
        " find (something is broken)."
    )
    minutes: int = Field(ge=1, le=60, description="The usual time in minutes.")
    predict: Question = Field(description="The question that is asked before the first check.")
    edit: tuple[str, ...] = Field(min_length=1, description="The files that the learner may change, as patterns.")
    ignored_findings: tuple[str, ...] = Field(
        (),
        description="The codes of lint findings that are part of the exercise. A failed check does not show them.",
    )
    adds_audit: bool = Field(
        True,
        description="Add the service audit to files that do not contain it. Use false if the learner must add audit.",
    )
    hints: tuple[str, ...] = Field(min_length=1, description="Hints, from a question to almost the solution.")
    tasks: tuple[Task, ...] = Field(min_length=1, max_length=5, description="The tasks.")
    explain: str = Field(min_length=1, description="The explanation that is shown when all tasks pass.")
    review: Question = Field(
        description="A question that is asked when all tasks pass, and again at the start of the next exercise."
    )

    @model_validator(mode="after")
    def _has_unique_tasks(self) -> ExerciseFile:
        ids = [one.id for one in self.tasks]
        if len(set(ids)) < len(ids):
            raise ValueError("two tasks have the same id; allowed: a different id for each task")
        return self


@dataclass(frozen=True)
class Exercise:
    """An exercise in its folder."""

    folder: Path
    file: ExerciseFile

    @property
    def name(self) -> str:
        """The name, such as ``03-two-subscribers``."""
        return self.folder.name

    @property
    def number(self) -> int:
        """The number at the beginning of the name."""
        return int(self.name[:2])

    @property
    def starter(self) -> Path:
        """The folder with the original files that the learner starts from."""
        return self.folder / STARTER

    @property
    def points(self) -> int:
        """The points of all tasks."""
        return sum(one.points for one in self.file.tasks)

    def may_edit(self, name: str) -> bool:
        """Return True if the learner may change a file. ``name`` is its path in the learner's folder."""
        return any(fnmatch(name, one) for one in self.file.edit)


def load_exercise(folder: Path) -> Exercise:
    """Read an exercise.

    Raises ConfigError with every error in ``exercise.yaml``, and RunnerError if the file does not exist.
    """
    path = folder / FILE
    try:
        text = read_bounded(path, MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RunnerError(f"{path}: cannot be read, {error}; allowed: an exercise's folder") from None
    document = Document(str(path), text, {})
    file = None
    if not document.is_unusable:
        # An exercise that lacks a required key cannot be used, so its other keys are not checked further.
        file, faults = validate(ExerciseFile, document.data)
        for place, complaint in faults:
            note(document, place, complaint)
    if document.faults or file is None:
        raise ConfigError([str(one) for one in sorted(document.faults)])
    return Exercise(folder, file)


def is_exercise_name(name: str) -> bool:
    """Return True if a folder's name is that of an exercise, such as ``03-two-subscribers``."""
    return _NAME.fullmatch(name) is not None


def exercises_in(folder: Path) -> list[Exercise]:
    """Return all exercises in a folder, in order.

    Raises RunnerError if the folder contains no exercise, and ConfigError.
    """
    folders = sorted(one.parent for one in folder.glob(f"*/{FILE}") if is_exercise_name(one.parent.name))
    if not folders:
        raise RunnerError(f"{folder}: contains no exercise; allowed: a folder with folders such as 01-first-event")
    return [load_exercise(one) for one in folders]


def named(exercises: Sequence[Exercise], name: str) -> Exercise:
    """Return an exercise by its number or name.

    Raises RunnerError with the known names if there is no such exercise.
    """
    for one in exercises:
        if name in (one.name, str(one.number), f"{one.number:02}"):
            return one
    from runner.config.error_detail import unknown  # imported here, because only an error needs it

    raise RunnerError(unknown("exercise", name, [one.name for one in exercises]))
