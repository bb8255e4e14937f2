"""The results of a check: pass, fail or error, for each task and for the exercise."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field


class Verdict(enum.StrEnum):
    """The three verdicts. Only ``fail`` is about the learner's files."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    #: The check itself or the broker has failed.
    ERROR = "error"


@dataclass(frozen=True)
class TaskResult:
    """The result of one task. If the task has passed, all texts except ``say`` are empty."""

    task: str
    title: str
    verdict: Verdict
    points: int
    #: The maximum points.
    of: int
    did: str = ""
    expected: str = ""
    saw: str = ""
    #: The sentence about this mistake or about the passed task.
    say: str = ""
    #: The place to look at, such as ``topology.yaml:12``, and this line as it is written.
    look: str = ""
    line: str = ""
    #: The history of one order, with a line for each step.
    history: Sequence[str] = ()
    #: The lint findings that explain the failure.
    findings: Sequence[str] = ()
    #: The duration of the task in seconds.
    seconds: float = 0.0


@dataclass(frozen=True)
class ExerciseResult:
    """The result of an exercise."""

    exercise: str
    title: str
    tasks: Sequence[TaskResult] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """``error`` if a task has this verdict, otherwise ``fail`` if a task has failed."""
        verdicts = {one.verdict for one in self.tasks}
        return next((one for one in (Verdict.ERROR, Verdict.FAIL) if one in verdicts), Verdict.PASS)

    @property
    def points(self) -> int:
        """The points of the passed tasks."""
        return sum(one.points for one in self.tasks)

    @property
    def of(self) -> int:
        """The maximum points."""
        return sum(one.of for one in self.tasks)

    @property
    def first_problem(self) -> TaskResult | None:
        """The first task that has not passed."""
        return next((one for one in self.tasks if one.verdict is not Verdict.PASS), None)
