"""exercise.yaml: quantities, the vocabulary of steps and expectations, and errors with their lines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.errors import ConfigError, RunnerError
from runner.learn.checker import check_exercise
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import Exercise, exercises_in, load_exercise, named
from runner.learn.learner_files import LearnerFiles
from runner.learn.proof import SENTENCE, static_problems, wrong_folders
from runner.learn.quantity import Quantity
from tests import exercise_page, learning_page
from tests.shipped_exercises import EXERCISES

GOOD = """\
title: A title
level: goal
minutes: 6
predict: {ask: What?, choices: [this, that], answer: this}
edit: [config.yaml]
hints: [one, two, three]
tasks:
  - id: first
    title: Do it.
    given: [{orders: 3}, {gateway: {slow: 2s}}, {kill: payment.1, when: {unacked: ">0"}}]
    expect: [{queue: a, ready: 3}, {emails: {type: payment.success, count: ">=1"}}]
explain: Why.
review: {ask: What?, choices: [this, that], answer: that}
"""


def exercise(folder: Path, text: str) -> Path:
    """Write an exercise, and return its folder."""
    target = folder / "01-example"
    target.mkdir()
    (target / "exercise.yaml").write_text(text)
    return target


@pytest.mark.parametrize(
    ("value", "fits", "misfits"),
    [
        (3, [3], [2, 4]),
        (">0", [1, 100], [0]),
        (">= 3", [3, 4], [2]),
        ("<60", [0, 59], [60]),
        ("<=60", [60], [61]),
        ("1..9", [1, 5, 9], [0, 10]),
        (1.5, [1.5], [1, 2]),
    ],
)
def test_a_quantity_is_a_number_a_comparison_or_a_range(value: object, fits: list[int], misfits: list[int]) -> None:
    quantity = Quantity(value)
    assert [one for one in [*fits, *misfits] if quantity.matches(one)] == fits


@pytest.mark.parametrize("value", ["three", ">", "1-9", True, None, [1], ">x", "1..", ""])
def test_any_other_value_is_no_quantity(value: object) -> None:
    with pytest.raises(ValueError, match="allowed: a number, such as 3, or a range"):
        Quantity(value)


def test_an_exercise_is_read_with_its_steps_and_expectations(tmp_path: Path) -> None:
    found = load_exercise(exercise(tmp_path, GOOD))
    (task,) = found.file.tasks
    assert [one.subject for one in task.given] == ["orders", "gateway", "kill"]
    assert [one.words() for one in task.given] == [
        "post 3 orders in USD",
        "the card gateway needs 2s for a charge",
        "kill payment.1 with more than 0 messages unacked",
    ]
    assert [one.subject for one in task.expect] == ["queue", "emails"]
    assert (found.name, found.number, found.points) == ("01-example", 1, 1)
    assert found.may_edit("config.yaml")
    assert not found.may_edit("topology.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("level: goal", "level: hard", 2, "unknown value 'hard'"),
        ("minutes: 6", "minutes: 0", 3, "out of range, 0; allowed: 1 or more"),
        ("answer: this", "answer: thus", 4, "the answer is not one of the choices"),
        ("{orders: 3}", "{order: 3}", 10, "unknown key 'order'; did you mean 'orders'?"),
        ("{orders: 3}", "{orders: 3, kill: payment}", 10, "needs exactly one of these keys, has orders and kill"),
        ("{orders: 3}", "{rate: 3}", 10, "needs exactly one of these keys, has none of them"),
        ("{orders: 3}", "{orders: 3, within: 2s}", 10, "'within' does not belong to 'orders'"),
        ("slow: 2s", "slow: 2", 10, "not a duration, 2; allowed: a number with a unit"),
        ("ready: 3", "ready: many", 11, "not a quantity, 'many'; allowed: a number, such as 3"),
        ("ready: 3", "count: 3", 11, "'count' does not belong to 'queue'; allowed: ready, keys"),
        ("explain: Why.", "explane: Why.", 12, "unknown key 'explane'; did you mean 'explain'?"),
    ],
)
def test_an_error_has_its_line_and_the_allowed_values(tmp_path: Path, old: str, new: str, line: int, text: str) -> None:
    assert old in GOOD
    folder = exercise(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_exercise(folder)
    assert any(f"exercise.yaml:{line}: " in one and text in one for one in caught.value.faults), caught.value.faults


def test_two_tasks_with_one_id_are_an_error(tmp_path: Path) -> None:
    task = GOOD[GOOD.index("  - id") : GOOD.index("explain")]
    with pytest.raises(ConfigError, match="two tasks have the same id"):
        load_exercise(exercise(tmp_path, GOOD.replace(task, task + task)))


def test_an_exercise_is_found_by_its_number_or_name_and_a_typo_gets_a_suggestion() -> None:
    first = EXERCISES[0]
    assert [named(EXERCISES, one) for one in ("1", "01", first.name)] == [first] * 3
    with pytest.raises(RunnerError, match=f"did you mean '{first.name}'"):
        named(EXERCISES, first.name[:-1])


def test_a_folder_without_exercises_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="contains no exercise; allowed"):
        exercises_in(tmp_path)


@pytest.mark.parametrize("one", EXERCISES, ids=lambda one: one.name)
def test_the_files_of_each_exercise_are_complete_and_no_task_is_passed_by_nothing(one: Exercise) -> None:
    assert static_problems(one) == []


def test_the_exercises_are_numbered_without_a_gap() -> None:
    assert [one.number for one in EXERCISES] == list(range(1, len(EXERCISES) + 1))


def test_the_page_about_the_format_is_that_of_the_models() -> None:
    assert exercise_page.PAGE.read_text("utf-8") == exercise_page.page()


def test_the_generated_parts_of_the_pages_are_current() -> None:
    for page, name, text in (
        (learning_page.LEARNING, "exercises", learning_page.table()),
        (learning_page.TEACHING, "mistakes", learning_page.mistakes()),
    ):
        assert page.read_text("utf-8") == learning_page.replaced(page, name, text), f"run: make schema ({page.name})"


def test_the_transcript_shows_the_exercise_as_it_is() -> None:
    walked = learning_page.walked()
    page = " ".join(learning_page.TEACHING.read_text("utf-8").split())
    sentence = (walked.folder / "wrong" / learning_page.MISTAKE / SENTENCE).read_text("utf-8")
    for text in (walked.file.predict.ask, *(one.title for one in walked.file.tasks), sentence, walked.file.review.ask):
        assert " ".join(text.split()) in page, "run: python -m tests.learning_page --transcript"


WRONG = [(one, folder) for one in EXERCISES for folder in wrong_folders(one)]


@pytest.mark.parametrize(("one", "folder"), WRONG, ids=lambda one: one.name)
def test_a_wrong_solution_that_cannot_run_gets_its_sentence(one: Exercise, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / one.name
    for source in (one.folder / "solution", folder):
        ignored = shutil.ignore_patterns(SENTENCE, "__pycache__")
        shutil.copytree(source, work, dirs_exist_ok=True, ignore=ignored)
    if LearnerFiles(one, work).refusal() is not None:
        # No system starts, so no broker is needed.
        first = check_exercise(one, work, ClassroomBroker(tmp_path)).first_problem
        assert first is not None
        assert first.say == (folder / SENTENCE).read_text("utf-8").strip()
