"""The proof of an exercise: starters fail, solutions pass, and each mistake gets its sentence."""

from __future__ import annotations

import concurrent.futures
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.learn.checker import check_exercise
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.evaluation import compare
from runner.learn.exercise import README, SOLUTION, STARTER, WRONG, Exercise
from runner.learn.files_seen import FilesSeen
from runner.learn.observation import Observation
from runner.learn.result_file import text_of
from runner.learn.verdict import ExerciseResult, Verdict

#: The file with the sentence that a wrong solution must get.
SENTENCE = "sentence.txt"
#: The minimum number of wrong solutions.
FEWEST = 3
#: The maximum number of words in each part of a sentence, and the maximum number of lines in a README.
MOST_WORDS, MOST_LINES = 25, 24
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


@dataclass(frozen=True)
class Proof:
    """The result of one step of a proof."""

    #: The exercise and the step, such as ``03-two-subscribers wrong/shared-queue``.
    what: str
    #: The problems, or an empty list.
    problems: Sequence[str]
    seconds: float = 0.0


def static_problems(exercise: Exercise) -> list[str]:
    """Return the problems that can be found in the files alone."""
    problems = [f"{name}: is missing" for name in (README, STARTER, SOLUTION) if not (exercise.folder / name).exists()]
    variants = wrong_folders(exercise)
    if len(variants) < FEWEST:
        problems.append(f"{WRONG}/: {len(variants)} wrong solutions; allowed: {FEWEST} or more")
    problems += [f"{WRONG}/{one.name}/{SENTENCE}: is missing" for one in variants if not (one / SENTENCE).is_file()]
    problems += _unknown_sentences(exercise)
    problems += _text_problems(exercise)
    for task in exercise.file.tasks:
        # A check that passes when nothing has happened proves nothing.
        if not task.needs_no_system and all(compare(one, Observation(), FilesSeen()).is_met for one in task.expect):
            problems.append(f"task {task.id}: passes on a system that does nothing")
    return problems


def _unknown_sentences(exercise: Exercise) -> Iterator[str]:
    """Yield a problem for each wrong solution whose sentence no task has."""
    says = [one.say for task in exercise.file.tasks for one in task.when_wrong]
    patterns = [re.escape(one.strip()).replace(re.escape("{saw}"), ".+") for one in says]
    for folder in wrong_folders(exercise):
        path = folder / SENTENCE
        if path.is_file() and not any(re.fullmatch(one, path.read_text("utf-8").strip()) for one in patterns):
            yield f"{WRONG}/{folder.name}/{SENTENCE}: no task has this sentence under 'when_wrong'"


def _text_problems(exercise: Exercise) -> Iterator[str]:
    readme = exercise.folder / README
    if readme.is_file():
        text = readme.read_text("utf-8")
        if len(text.splitlines()) > MOST_LINES:
            yield f"{README}: {len(text.splitlines())} lines; allowed: {MOST_LINES}"
        if not text.startswith(f"# {exercise.number}. "):
            yield f"{README}: the first line is not '# {exercise.number}. TITLE'"
        yield from (
            f"{README}: {one}: does not exist" for one in _LINK.findall(text) if not (readme.parent / one).exists()
        )
    said = [(task.id, one.say) for task in exercise.file.tasks for one in (*task.when_wrong, *task.when_right)]
    for task, say in said:
        for sentence in re.split(r"(?<=[.?!])\s+", say):
            if len(sentence.split()) > MOST_WORDS:
                yield f"task {task}: a sentence of {len(sentence.split())} words; allowed: {MOST_WORDS}: {sentence}"
    if len(exercise.file.hints) < FEWEST:
        yield f"hints: {len(exercise.file.hints)}; allowed: {FEWEST} or more"


def wrong_folders(exercise: Exercise) -> list[Path]:
    """Return the folders of the wrong solutions. Each has only the files that differ from the solution."""
    folder = exercise.folder / WRONG
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


def prove(exercises: Sequence[Exercise], broker: ClassroomBroker, *, is_short: bool, parallel: int) -> Iterator[Proof]:
    """Prove exercises, and yield each step when it is done.

    With ``is_short``, check only the starters and the solutions. Exercises that kill the broker are proved one at a
    time, after all others.
    """
    for exercise in exercises:
        yield Proof(f"{exercise.name} files", static_problems(exercise))
    steps = [(one, step) for one in exercises for step in _steps(one, is_short=is_short)]
    shared = [pair for pair in steps if not kills_broker(pair[0])]
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        running = [pool.submit(step, exercise, broker) for exercise, step in shared]
        for one in concurrent.futures.as_completed(running):
            yield one.result()
    for exercise, step in steps:
        if kills_broker(exercise):
            yield step(exercise, broker)


def kills_broker(exercise: Exercise) -> bool:
    """Return True if a task restarts the broker, which all other checks use too."""
    return any(task.kills_broker for task in exercise.file.tasks)


_Step = Callable[[Exercise, ClassroomBroker], Proof]


def _steps(exercise: Exercise, *, is_short: bool) -> Iterator[_Step]:
    yield prove_solution
    yield prove_starter
    if not is_short:
        yield from (partial(prove_wrong_solution, folder=one) for one in wrong_folders(exercise))


def _checked(exercise: Exercise, broker: ClassroomBroker, *sources: Path) -> tuple[ExerciseResult, float]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastcommerce-proof-", ignore_cleanup_errors=True) as name:
        for source in sources:
            ignored = shutil.ignore_patterns(SENTENCE, "__pycache__")
            shutil.copytree(source, name, dirs_exist_ok=True, ignore=ignored)
        result = check_exercise(exercise, Path(name), broker)
    return result, round(time.monotonic() - started, 1)


def prove_solution(exercise: Exercise, broker: ClassroomBroker) -> Proof:
    """Check that the solution passes."""
    result, seconds = _checked(exercise, broker, exercise.folder / SOLUTION)
    problem = result.first_problem
    problems = [] if problem is None else [f"task {problem.task} is not passed: {text_of(problem)}"]
    return Proof(f"{exercise.name} {SOLUTION}", problems, seconds)


def prove_starter(exercise: Exercise, broker: ClassroomBroker) -> Proof:
    """Check that the starter fails."""
    result, seconds = _checked(exercise, broker, exercise.starter)
    is_right = result.verdict is Verdict.FAIL
    return Proof(f"{exercise.name} {STARTER}", [] if is_right else [f"the verdict is {result.verdict}"], seconds)


def prove_wrong_solution(exercise: Exercise, broker: ClassroomBroker, folder: Path) -> Proof:
    """Check that a wrong solution fails with its sentence."""
    result, seconds = _checked(exercise, broker, exercise.folder / SOLUTION, folder)
    what = f"{exercise.name} {WRONG}/{folder.name}"
    problem = result.first_problem
    if problem is None or problem.verdict is not Verdict.FAIL:
        return Proof(what, [f"the verdict is {result.verdict}"], seconds)
    path = folder / SENTENCE
    wanted = path.read_text("utf-8").strip() if path.is_file() else ""
    problems = [] if problem.say == wanted else [f"says {problem.say!r}, not {wanted!r}; {text_of(problem)}"]
    return Proof(what, problems, seconds)
