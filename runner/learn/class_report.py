"""The progress and the predictions of a class, read from the students' folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.learn.exercise import Exercise
from runner.learn.workspace import FOLDER, PROGRESS, Progress, read_progress


@dataclass(frozen=True)
class ClassProgress:
    """The progress of each student, by the name of the student's folder."""

    students: Mapping[str, Progress]
    #: The reason for each student without a readable progress file.
    problems: Mapping[str, str] = field(default_factory=dict)

    def predictions(self, exercise: Exercise) -> Counter[str]:
        """Return the number of students for each prediction."""
        records = [one.exercises.get(exercise.name) for one in self.students.values()]
        return Counter(one.prediction for one in records if one is not None and one.prediction is not None)

    def as_json(self, exercises: Sequence[Exercise]) -> dict[str, Any]:
        """Return all records and predictions as JSON values."""
        return {
            "students": {name: asdict(one) for name, one in self.students.items()},
            "problems": dict(self.problems),
            "predictions": {one.name: dict(self.predictions(one)) for one in exercises},
        }


def read_class(folder: Path) -> ClassProgress:
    """Read the progress in each student's folder. Raises RunnerError if no folder contains progress."""
    found: dict[str, Progress] = {}
    problems: dict[str, str] = {}
    for student in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        place = student / FOLDER if (student / FOLDER).is_dir() else student
        try:
            found[student.name] = read_progress(place)
            if not (place / PROGRESS).exists():
                problems[student.name] = f"no {PROGRESS}"
        except RunnerError as error:
            # The other students of the class are still shown.
            found[student.name], problems[student.name] = Progress(), str(error)
    if len(found) == sum(problem == f"no {PROGRESS}" for problem in problems.values()):
        raise RunnerError(
            f"{folder}: contains no student's progress; allowed: folders that contain {FOLDER}/{PROGRESS}"
        )
    return ClassProgress(found, problems)


def class_table(found: ClassProgress, exercises: Sequence[Exercise]) -> Iterator[str]:
    """Yield a table of students and exercises, followed by the predictions."""
    width = max(len(name) for name in found.students)
    yield "  ".join(["STUDENT".ljust(width), *(f"{one.number:>2}" for one in exercises), "STUCK AT"])
    for name, progress in found.students.items():
        records = [progress.exercises.get(one.name) for one in exercises]
        cells = ["✓" if one and one.passed_at else "·" if one and one.checks else "" for one in records]
        states = zip(exercises, records, strict=True)
        stuck = [
            f"{one.name[:2]} {record.stuck_at}" for one, record in states if record is not None and record.stuck_at
        ]
        note = found.problems.get(name) or next(iter(stuck), "")
        yield "  ".join([name.ljust(width), *(cell.rjust(2) for cell in cells), note]).rstrip()
    yield "✓ done · checked, not done yet"
    for exercise in exercises:
        counts = found.predictions(exercise)
        if counts:
            yield f"\n{exercise.name}: {exercise.file.predict.ask}"
            for choice in exercise.file.predict.choices:
                mark = "✓" if choice == exercise.file.predict.answer else " "
                yield f"  {mark} {counts[choice]:>3}  {choice}"
