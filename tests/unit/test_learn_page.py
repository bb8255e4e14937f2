"""The page Learn and its watch: when a save is checked, and what the page shows of an exercise."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runner.cli.main import main
from runner.dashboard.lesson_watch import KeptBroker, LessonWatch
from runner.dashboard.page_job import PageJobs
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.http.flask_views import answer_problems
from runner.learn.exercise import Exercise
from runner.learn.last_result import LastResult, fingerprint_of, hold_watch, read_result, write_result
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict
from runner.learn.workspace import FOLDER, Workspace


class Job:
    """A check that a test ends."""

    id, began = "1", 0.0

    def __init__(self) -> None:
        self.is_running = True
        self.exit_code: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {"exit_code": self.exit_code, "lines": ["no RabbitMQ is installed"]}


class Jobs(PageJobs):
    """The jobs of a test, which run nothing."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.jobs: list[Job] = []

    def start(self, arguments: Sequence[str], shown: str | None = None) -> Any:
        self.commands.append(arguments)
        self.jobs.append(Job())
        return self.jobs[-1]


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls to the classroom's broker, which is not started."""
    found: list[str] = []
    monkeypatch.setattr(KeptBroker, "keep", lambda _: found.append("keep"))
    monkeypatch.setattr(KeptBroker, "stop", lambda _: found.append("stop"))
    return found


@pytest.fixture
def watch(tmp_path: Path, brokers: list[str]) -> LessonWatch:
    return LessonWatch(tmp_path, Jobs())


def jobs_of(watch: LessonWatch) -> Jobs:
    assert isinstance(watch._jobs, Jobs)
    return watch._jobs


def started(watch: LessonWatch, number: int = 1) -> Exercise:
    exercise = watch.exercises[number - 1]
    watch.workspace.start(exercise)
    return exercise


def save(watch: LessonWatch, exercise: Exercise, text: str) -> None:
    path = watch.workspace.path(exercise) / "config.yaml"
    path.write_text(f"{path.read_text()}# {text}\n")


def look(watch: LessonWatch, exercise: Exercise, times: int = 2) -> None:
    """Look at the files as an open page does."""
    for _ in range(times):
        watch.watch(exercise, has_predicted=True)


def result_of(exercise: Exercise, *verdicts: Verdict) -> ExerciseResult:
    tasks = [
        TaskResult(
            task.id, task.title, verdict, task.points if verdict is Verdict.PASS else 0, task.points, say="a cause"
        )
        for task, verdict in zip(exercise.file.tasks, verdicts, strict=True)
    ]
    return ExerciseResult(exercise.name, exercise.file.title, tasks)


def test_each_save_is_checked_once_by_the_command_of_the_terminal(watch: LessonWatch) -> None:
    exercise = started(watch)
    look(watch, exercise, 5)
    assert jobs_of(watch).commands == []  # the original files need no check
    save(watch, exercise, "one")
    look(watch, exercise, 1)
    assert jobs_of(watch).commands == []  # the file may be half-written
    look(watch, exercise, 5)
    assert jobs_of(watch).commands == [["learn", "check", "1"]]
    jobs_of(watch).jobs[0].is_running = False
    jobs_of(watch).jobs[0].exit_code = 75
    look(watch, exercise, 5)
    assert len(jobs_of(watch).commands) == 1  # a check that could not run is not repeated
    assert watch.state(exercise).failure == ["no RabbitMQ is installed"]
    save(watch, exercise, "two")
    look(watch, exercise)
    assert len(jobs_of(watch).commands) == 2


def test_a_save_during_a_check_is_checked_afterwards(watch: LessonWatch) -> None:
    exercise = started(watch)
    watch.check(exercise)
    save(watch, exercise, "one")
    look(watch, exercise, 3)
    assert len(jobs_of(watch).commands) == 1
    watch.check(exercise)
    assert len(jobs_of(watch).commands) == 1  # one check at a time
    jobs_of(watch).jobs[0].is_running = False
    look(watch, exercise)
    assert len(jobs_of(watch).commands) == 2


def test_files_that_a_terminal_has_checked_are_not_checked_again(watch: LessonWatch) -> None:
    exercise = started(watch)
    save(watch, exercise, "one")
    fingerprint = fingerprint_of(watch.workspace.path(exercise))
    watch.workspace.note(exercise, result_of(exercise, Verdict.PASS, Verdict.FAIL), fingerprint)
    look(watch, exercise)
    assert jobs_of(watch).commands == []
    state = watch.state(exercise)
    assert state.last is not None
    assert [one.verdict for one in state.last.result.tasks] == [Verdict.PASS, Verdict.FAIL]
    assert not state.is_outdated


def test_nothing_is_checked_before_the_prediction_or_beside_the_watch_mode(watch: LessonWatch) -> None:
    exercise = started(watch)
    save(watch, exercise, "one")
    for _ in range(3):
        watch.watch(exercise, has_predicted=False)
    with hold_watch(watch.workspace.folder):
        assert watch.state(exercise).is_watched
        look(watch, exercise, 3)
    assert jobs_of(watch).commands == []
    assert not watch.state(exercise).is_watched
    look(watch, exercise)
    assert len(jobs_of(watch).commands) == 1


def test_the_broker_is_kept_except_for_a_check_that_kills_it(watch: LessonWatch, brokers: list[str]) -> None:
    watch.check(started(watch))
    assert brokers == ["keep"]
    last = started(watch, 18)
    look(watch, last)
    watch.check(last)
    assert brokers == ["keep", "stop"]


def test_a_stored_result_is_read_again_and_a_damaged_one_is_none(tmp_path: Path, watch: LessonWatch) -> None:
    exercise = watch.exercises[0]
    assert read_result(tmp_path, exercise.name) is None
    last = LastResult(result_of(exercise, Verdict.PASS, Verdict.ERROR), "f", 12.5)
    write_result(tmp_path, last)
    found = read_result(tmp_path, exercise.name)
    assert found is not None
    problem = found.result.first_problem
    assert problem is not None
    assert (found.fingerprint, found.at, problem.task, problem.say) == ("f", 12.5, "paid-later", "a cause")
    for path in (tmp_path / ".results").iterdir():
        path.write_text("{}")
    assert read_result(tmp_path, exercise.name) is None


def test_an_error_of_a_check_is_stored_for_the_page_but_not_in_the_progress(watch: LessonWatch) -> None:
    exercise = started(watch)
    watch.workspace.note(exercise, result_of(exercise, Verdict.ERROR, Verdict.ERROR), "f")
    state = watch.state(exercise)
    assert state.record.checks == 0
    assert state.last is not None
    assert state.last.result.verdict is Verdict.ERROR


# The page.


@pytest.fixture
def dashboard(tmp_path: Path, brokers: list[str]) -> Iterator[Dashboard]:
    one = Dashboard(tmp_path, DashboardSettings())
    yield one
    one.close()


@pytest.fixture
def client(dashboard: Dashboard) -> FlaskClient:
    app = create_app(dashboard)
    answer_problems(app, logging.getLogger("test"))
    return app.test_client()


def text_of(client: FlaskClient, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True).replace("&#39;", "'")).split())


def call(folder: Path, *arguments: str) -> tuple[int, str]:
    from click.testing import CliRunner

    done = CliRunner().invoke(main, ["--project", str(folder), "learn", *arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_the_list_shows_the_progress_that_learn_stores(client: FlaskClient, tmp_path: Path) -> None:
    text = text_of(client, "/learn")
    assert "0 of 18 exercises done" in text
    assert "Start the first exercise" in text
    call(tmp_path, "start", "1")
    call(tmp_path, "hint")
    workspace = Workspace(tmp_path / FOLDER)
    exercise = client.application.extensions["dashboard"].lessons.exercises[0]
    workspace.note(exercise, result_of(exercise, Verdict.PASS, Verdict.FAIL))
    text = text_of(client, "/learn")
    assert "1 Your first event current 6 change one thing 1 of 2 points 1 1" in text
    assert "Continue with exercise 1" in text
    workspace.note(exercise, result_of(exercise, Verdict.PASS, Verdict.PASS))
    text = text_of(client, "/learn")
    assert "1 of 18 exercises done" in text
    assert "Continue with exercise 2" in text


def test_the_tasks_appear_after_the_prediction_and_the_explanation_after_the_last_task(
    client: FlaskClient, tmp_path: Path
) -> None:
    page = "/learn/01-first-event"
    assert "This exercise has not been started" in text_of(client, page)
    call(tmp_path, "start", "1")
    text = text_of(client, page)
    assert "First a prediction" in text
    assert "Compare the time of the response" not in text
    assert "Compare the time of the response" in text_of(client, f"{page}?skip=1")
    assert call(tmp_path, "predict", "1", "C")[1].endswith("your prediction: when RabbitMQ has confirmed the event\n")
    text = text_of(client, page)
    assert "Compare the time of the response" in text
    assert "Which service talks to the card gateway?" not in text
    call(tmp_path, "hint", "1")
    assert "1 Which service talks to the card gateway? " in text_of(client, page)
    exercise = client.application.extensions["dashboard"].lessons.exercises[0]
    Workspace(tmp_path / FOLDER).note(exercise, result_of(exercise, Verdict.FAIL, Verdict.FAIL))
    text = text_of(client, page)
    assert "0 of 2 points, checked at" in text
    assert "a cause" in text
    assert "What is certain?" not in text
    assert call(tmp_path, "review", "1", "b")[0] == 1
    Workspace(tmp_path / FOLDER).note(exercise, result_of(exercise, Verdict.PASS, Verdict.PASS))
    text = text_of(client, page)
    assert "You predicted: when RabbitMQ has confirmed the event. That is what happened." in text
    assert "What is certain?" in text
    assert "Passed, 1 of 18 Next exercise" in text
    assert call(tmp_path, "review", "1", "a")[1].endswith("The answer is: RabbitMQ has the event.\n")
    assert "You answered: the card was charged. The answer is: RabbitMQ has the event." in text_of(client, page)


@pytest.mark.parametrize("number", [1, 17])
def test_only_a_terminal_says_how_to_start_the_system_of_an_exercise(
    client: FlaskClient, tmp_path: Path, number: int
) -> None:
    output = call(tmp_path, "start", str(number))[1]
    _, _, part = output.partition("\n## In other terminals\n")
    assert 0 < part.index("fastcommerce down") < part.index(" --project my-work/")
    text = text_of(client, f"/learn/{client.application.extensions['dashboard'].lessons.exercises[number - 1].name}")
    assert "Predict" in text
    assert "my-work" not in text
    assert "terminal" not in text


@pytest.mark.parametrize("choice", ["e", "", "--help-me", "ab"])
def test_an_unknown_choice_is_refused(tmp_path: Path, choice: str) -> None:
    code, output = call(tmp_path, "predict", "1", "--", choice)
    assert code == 2
    assert f"not a choice, {choice!r}; allowed: a, b, c, d" in output


def test_the_slides_lead_from_the_question_over_the_tasks_to_the_next_exercise(
    client: FlaskClient, tmp_path: Path
) -> None:
    call(tmp_path, "start", "1")
    address, seen = "/learn/01-first-event?projector=1", []
    for _ in range(4):
        page = client.get(address).get_data(as_text=True)
        seen.append(re.search(r"<h1>(.*?)</h1>.*?<h2>(.*?)</h2>", page, re.DOTALL).groups())  # type: ignore[union-attr]
        found = re.search(r'href="([^"]+)" data-next', page)
        assert found is not None
        address = found[1].replace("&amp;", "&")
    titles = [title for title, _ in seen]
    assert titles == ["1. Your first event"] * 3 + ["2. Your first queue"]
    assert [text[:2] for _, text in seen[:3]] == ["A ", "1.", "2."]
    assert "data-previous" not in client.get("/learn/1?projector=1", follow_redirects=True).get_data(as_text=True)
    assert client.get("/learn/18?projector=1&slide=999", follow_redirects=True).status_code == 200


def test_unknown_exercises_and_damaged_progress_are_reported(client: FlaskClient, tmp_path: Path) -> None:
    answer = client.get("/learn/99")
    assert answer.status_code == 404
    assert "unknown exercise '99'" in answer.get_data(as_text=True)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "progress.json").write_text("[]")
    assert "not a progress file" in text_of(client, "/learn")
    assert "not a progress file" in text_of(client, "/learn/01-first-event")


def test_a_check_and_a_look_need_the_token_of_the_page(client: FlaskClient, tmp_path: Path) -> None:
    call(tmp_path, "start", "1")
    for name in ("watch", "check"):
        assert client.post(f"/learn/01-first-event/{name}").status_code == 403
    page = client.get("/learn").get_data(as_text=True)
    found = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert found is not None
    headers = {"X-CSRF-Token": found[1]}
    state = client.post("/learn/01-first-event/watch", headers=headers).get_json()
    assert state["checking"] is False
    assert client.post("/learn/02-first-queue/check", headers=headers).status_code == 409
