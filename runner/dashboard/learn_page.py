"""The page Learn: the exercises of the classroom, checked at each save, also large enough for a projector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from runner.dashboard.exercise_markup import inline_markup, markup_of
from runner.dashboard.lesson_picture import lesson_picture
from runner.dashboard.lesson_watch import LessonState, LessonWatch
from runner.dashboard.web_server import current_dashboard
from runner.errors import RunnerError
from runner.http import Problem
from runner.invocation import invocation
from runner.learn.dialogue import LETTERS
from runner.learn.exercise import SOLUTION, Exercise, named
from runner.learn.exercise_text import page_source
from runner.learn.verdict import TaskResult, Verdict
from runner.learn.workspace import FOLDER

BLUEPRINT = Blueprint("learn", __name__)


@dataclass(frozen=True)
class ShownTask:
    """A task with the verdict of the last check, or without one."""

    number: int
    title: str
    of: int
    result: TaskResult | None = None
    #: True for the first task that has not passed, whose details are shown.
    is_open: bool = False

    @property
    def verdict(self) -> str:
        """The verdict, or an empty string before the first check."""
        return "" if self.result is None else str(self.result.verdict)


@BLUEPRINT.get("/learn")
def show_exercises() -> str:
    """Return the list of exercises with the progress."""
    lessons = current_dashboard().lessons
    try:
        exercises, progress = lessons.exercises, lessons.workspace.progress
    except RunnerError as error:
        return render_template("learn.html", problem=str(error), exercises=[])
    records = {one.name: progress.of(one) for one in exercises}
    done = sum(record.passed_at is not None for record in records.values())
    workspace = lessons.workspace
    following = workspace.chosen(exercises)
    if records[following.name].passed_at is not None:
        later = [one for one in exercises if one.number > following.number]
        following = workspace.following(later) or workspace.following(exercises) or following
    return render_template(
        "learn.html", problem="", exercises=exercises, records=records, progress=progress, done=done,
        following=following, is_begun=any(one.started_at for one in records.values()),
    )  # fmt: skip


@BLUEPRINT.get("/learn/<name>")
def show_exercise(name: str) -> ResponseReturnValue:
    """Return the page of one exercise."""
    lessons = current_dashboard().lessons
    exercise = _named(lessons, name)
    if name != exercise.name:
        query = request.query_string.decode()
        return redirect(url_for("learn.show_exercise", name=exercise.name) + (f"?{query}" if query else ""))
    try:
        state = lessons.state(exercise)
    except RunnerError as error:
        return render_template("learn.html", problem=str(error), exercises=[])
    is_projector = request.args.get("projector") == "1"
    return render_template(
        "projector.html" if is_projector else "exercise.html",
        **_context(lessons, exercise, state),
        **(_slides(lessons, exercise, state) if is_projector else {}),
    )


@BLUEPRINT.post("/learn/<name>/watch")
def watch_exercise(name: str) -> ResponseReturnValue:
    """Check the files if they were saved. Return a text that changes with the state of the exercise."""
    lessons = current_dashboard().lessons
    exercise = _named(lessons, name)
    try:
        has_predicted = _has_predicted(lessons.state(exercise))
        state = lessons.watch(exercise, has_predicted=has_predicted)
    except RunnerError as error:
        raise Problem(503, str(error)) from None
    return {"version": state.version, "checking": state.is_checking}


@BLUEPRINT.post("/learn/<name>/check")
def check_exercise_now(name: str) -> ResponseReturnValue:
    """Check the files now."""
    lessons = current_dashboard().lessons
    exercise = _named(lessons, name)
    if not (lessons.workspace.path(exercise)).is_dir():
        raise Problem(409, f"{exercise.name}: not started; start the exercise first")
    job = lessons.check(exercise)
    if job is None:
        raise Problem(503, "too many commands are running; wait for one of them, or stop it")
    return job.as_json(), 202


def _named(lessons: LessonWatch, name: str) -> Exercise:
    try:
        return named(lessons.exercises, name)
    except RunnerError as error:
        raise Problem(404, str(error)) from None


def _has_predicted(state: LessonState) -> bool:
    """Return True if the tasks are shown. Before the prediction, they would reveal the answer."""
    record = state.record
    return bool(record.prediction or record.checks or record.passed_at or request.args.get("skip") == "1")


def _context(lessons: LessonWatch, exercise: Exercise, state: LessonState) -> dict[str, Any]:
    folder = lessons.workspace.path(exercise)
    number = str(exercise.number)
    later = [one for one in lessons.exercises if one.number > exercise.number]
    return {
        "exercise": exercise,
        "state": state,
        "record": state.record,
        "text": markup_of(page_source(exercise)),
        "inline": inline_markup,
        "tasks": _tasks(exercise, state),
        "has_predicted": _has_predicted(state),
        "letters": LETTERS,
        "explanation": [inline_markup(one) for one in exercise.file.explain.strip().splitlines()],
        "picture": lesson_picture(folder, exercise.starter, state.version),
        "files": [f"{FOLDER}/{exercise.name}/{one}" for one in exercise.file.edit],
        "number": number,
        "done": sum(lessons.workspace.progress.of(one).passed_at is not None for one in lessons.exercises),
        "total": len(lessons.exercises),
        "following": later[0] if later else None,
        "has_solution": (exercise.folder / SOLUTION).is_dir(),
        "check_command": invocation("learn", "check", number),
    }


def _tasks(exercise: Exercise, state: LessonState) -> list[ShownTask]:
    results = {} if state.last is None else {one.task: one for one in state.last.result.tasks}
    problem = None if state.last is None else state.last.result.first_problem
    return [
        ShownTask(
            number, task.title, task.points, found := results.get(task.id), found is not None and found is problem
        )
        for number, task in enumerate(exercise.file.tasks, 1)
    ]


def _slides(lessons: LessonWatch, exercise: Exercise, state: LessonState) -> dict[str, Any]:
    """Return the slide of the projector, and the addresses of the slides before and after it."""
    is_passed = state.last is not None and state.last.result.verdict is Verdict.PASS
    last = len(exercise.file.tasks) + (1 if is_passed or state.record.passed_at else 0)
    text = request.args.get("slide", "0")
    slide = min(int(text), last) if text.isdecimal() and len(text) < 4 else 0
    others = {one.number: one for one in lessons.exercises}

    def address(of: Exercise | None, number: int) -> str:
        if of is None:
            return ""
        # A slide after the question shows the tasks, also if the class has predicted aloud.
        skip = "1" if of is exercise and (number or request.args.get("skip")) else None
        return url_for("learn.show_exercise", name=of.name, projector=1, slide=number or None, skip=skip)

    following, before = others.get(exercise.number + 1), others.get(exercise.number - 1)
    return {
        "slide": slide,
        "last_slide": last,
        "previous": address(exercise, slide - 1) if slide else address(before, 0),
        "next": address(exercise, slide + 1) if slide < last else address(following, 0),
        "leave": url_for("learn.show_exercise", name=exercise.name),
    }
