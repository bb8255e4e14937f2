"""The results of exercises: on a terminal, in the formats of other programs, and of a class."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

from runner.cli.main import main
from runner.errors import RunnerError
from runner.invocation import invocation
from runner.learn import learn_command
from runner.learn.class_report import class_table, read_class
from runner.learn.classroom import submission
from runner.learn.exercise import Exercise
from runner.learn.exercise_text import exercise_text, task_text
from runner.learn.result_file import FORMATS
from runner.learn.result_text import result_lines
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict
from runner.learn.workspace import Workspace, read_progress
from tests.shipped_exercises import EXERCISES

PASSED = TaskResult("paid", "Each order is paid.", Verdict.PASS, 2, 2, seconds=1.5)
FAILED = TaskResult(
    "parked", "Failed orders wait.", Verdict.FAIL, 0, 3, did="post 3 orders in USD", expected="3 ready", saw="0 ready",
    say="The queue has no retry delays.", look="topology.yaml:12", line="    retry: []", history=["order 1: accepted"],
)  # fmt: skip
BROKEN = TaskResult("down", "It runs.", Verdict.ERROR, 0, 1, saw="the broker is unreachable")
RESULTS = [ExerciseResult("07-retries", "Retries", [PASSED, FAILED])]


def test_a_result_is_an_error_before_it_is_a_fail_and_points_are_partial() -> None:
    assert RESULTS[0].verdict is Verdict.FAIL
    assert (RESULTS[0].points, RESULTS[0].of) == (2, 5)
    assert RESULTS[0].first_problem is FAILED
    assert ExerciseResult("a", "A", [FAILED, BROKEN]).verdict is Verdict.ERROR
    assert ExerciseResult("a", "A", [PASSED]).verdict is Verdict.PASS


def test_only_the_first_failed_task_is_shown_in_full() -> None:
    lines = list(result_lines(ExerciseResult("a", "A", [PASSED, FAILED, FAILED]), width=60, colour=False))
    text = "\n".join(lines)
    assert lines[:3] == [
        "✓ Each order is paid. (2 of 2 points)",
        "✗ Failed orders wait. (0 of 3 points)",
        "✗ Failed orders wait. (0 of 3 points)",
    ]
    assert text.count("did       post 3 orders in USD") == 1
    for part in ("expected  3 ready", "saw       0 ready", "order 1: accepted", "no retry delays", "| " + FAILED.line):
        assert part in text


def test_an_error_of_the_check_is_not_blamed_on_the_learner() -> None:
    text = "\n".join(result_lines(ExerciseResult("a", "A", [BROKEN]), width=80, colour=False))
    assert "the broker is unreachable" in text
    assert "Your files are not the cause" in text
    assert "expected" not in text


@pytest.mark.parametrize("width", [40, 56, 88])
def test_lines_fit_the_width_and_colours_are_only_for_a_terminal(width: int) -> None:
    plain = list(result_lines(RESULTS[0], width=width, colour=False))
    assert not any("\x1b" in one for one in plain)
    assert max(len(one) for one in plain[3:] if "learn" not in one and "|" not in one) <= width
    assert [click.unstyle(one) for one in result_lines(RESULTS[0], width=width, colour=True)] == plain


def test_quoted_files_cannot_control_a_terminal_or_break_xml() -> None:
    hostile = TaskResult("a", "A", Verdict.FAIL, 0, 1, saw="\x1b[2K\x00saw", line="\x1b[2Kline", look="a.yaml:1")
    result = ExerciseResult("a", "A", [hostile])
    text = "\n".join(result_lines(result, width=60, colour=False))
    assert "\x1b" not in text
    assert r"\x1b[2K\x00saw" in text
    for form in FORMATS.values():
        assert "\x1b" not in form([result])
    assert ElementTree.fromstring(FORMATS["junit"]([result])).find("testsuite/testcase/failure") is not None


def test_json_has_the_fields_of_exercisms_test_runners() -> None:
    found = json.loads(FORMATS["json"](RESULTS))
    assert (found["version"], found["status"], found["message"]) == (3, "fail", None)
    first, second = found["tests"]
    assert (first["status"], first["message"], first["task_id"]) == ("pass", None, 1)
    assert second["status"] == "fail"
    assert second["task_id"] == 2
    assert "The queue has no retry delays." in second["message"]
    assert {"name", "output", "test_code"} <= second.keys()
    assert json.loads(FORMATS["json"]([ExerciseResult("a", "A", [BROKEN])]))["message"] is not None


def test_junit_counts_failures_and_errors() -> None:
    root = ElementTree.fromstring(FORMATS["junit"]([*RESULTS, ExerciseResult("a", "A", [BROKEN])]))
    first, second = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures"), first.get("errors")) == ("2", "1", "0")
    assert (second.get("tests"), second.get("failures"), second.get("errors")) == ("1", "0", "1")
    failure = first.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == FAILED.say
    assert "topology.yaml:12" in (failure.text or "")


def test_gradescope_gets_scores() -> None:
    (broken,) = json.loads(FORMATS["gradescope"]([ExerciseResult("a", "A", [BROKEN])]))["tests"]
    assert broken["output"].startswith("The check could not run. This is not about the files.")
    found = json.loads(FORMATS["gradescope"](RESULTS))["tests"]
    assert [(one["score"], one["max_score"], one["status"]) for one in found] == [(2, 2, "passed"), (0, 3, "failed")]


def test_classroom_50_gets_whole_numbers_and_the_variables_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSROOM", "queues")
    monkeypatch.setenv("ASSIGNMENT", "week-3")
    found = json.loads(FORMATS["classroom50"](RESULTS))
    assert found["schema"] == "classroom50/result/v1"
    assert (found["classroom"], found["assignment"], found["score"], found["max-score"]) == ("queues", "week-3", 2, 5)
    assert [one["passed"] for one in found["tests"]] == [True, False]
    assert {"test-name", "passed", "score", "max-score"} <= found["tests"][0].keys()


def call(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command in this process."""
    done = CliRunner().invoke(main, ["--project", str(folder), "learn", *arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_start_copies_the_files_once_and_reset_keeps_the_learners_files(tmp_path: Path) -> None:
    code, output = call(tmp_path, "start", "1")
    assert code == 0
    assert EXERCISES[0].file.tasks[0].title in output
    file = tmp_path / "my-work" / EXERCISES[0].name / "config.yaml"
    file.write_text("changed")
    assert call(tmp_path, "start", "1")[0] == 0
    assert file.read_text() == "changed"
    code, output = call(tmp_path, "reset")
    assert code == 0
    assert file.read_text() == (EXERCISES[0].starter / "config.yaml").read_text()
    (kept,) = (tmp_path / "my-work" / ".old").glob("*/config.yaml")
    assert kept.read_text() == "changed"
    assert str(kept.parent) in output


def test_two_resets_keep_both_versions(tmp_path: Path) -> None:
    for text in ("first", "second"):
        call(tmp_path, "start", "1")
        (tmp_path / "my-work" / EXERCISES[0].name / "config.yaml").write_text(text)
        assert call(tmp_path, "reset", "1")[0] == 0
    kept = (tmp_path / "my-work" / ".old").glob("*/config.yaml")
    assert sorted(one.read_text() for one in kept) == ["first", "second"]


def test_the_check_of_a_submission_changes_nothing_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = ExerciseResult(EXERCISES[0].name, "A", [FAILED])
    monkeypatch.setattr(learn_command, "ClassroomBroker", lambda _: nullcontext())
    monkeypatch.setattr(learn_command, "check_exercise", lambda *_: result)
    call(tmp_path, "start", "1")
    progress = tmp_path / "my-work" / "progress.json"
    before = progress.read_text()
    assert call(tmp_path, "check", "1", "--work", str(tmp_path / "my-work"))[0] == 1
    assert progress.read_text() == before
    assert call(tmp_path, "check", "1")[0] == 1
    assert progress.read_text() != before
    code, output = call(tmp_path, "check", "1", "--output", "/proc/results.json")
    assert (code, "/proc/results.json: cannot be written, " in output) == (1, True)


def test_hints_come_one_after_the_other_and_the_solution_only_after_a_check(tmp_path: Path) -> None:
    call(tmp_path, "start", "1")
    hints = EXERCISES[0].file.hints
    for number, text in enumerate([*hints, hints[-1]], 1):
        code, output = call(tmp_path, "hint")
        assert code == 0
        assert f"hint {min(number, len(hints))} of {len(hints)}: {text}" in " ".join(output.split())
    assert "after your first check" in call(tmp_path, "solution")[1]
    workspace = Workspace(tmp_path / "my-work")
    workspace.note(EXERCISES[0], ExerciseResult(EXERCISES[0].name, "A", [FAILED]))
    assert "--- config.yaml" in call(tmp_path, "solution")[1]
    record = read_progress(tmp_path / "my-work").of(EXERCISES[0])
    assert (record.checks, record.hints, record.has_seen_solution, record.stuck_at) == (1, 3, True, "parked")


def test_an_error_of_the_check_changes_no_progress(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.note(EXERCISES[0], ExerciseResult(EXERCISES[0].name, "A", [PASSED]))
    workspace.note(EXERCISES[0], ExerciseResult(EXERCISES[0].name, "A", [BROKEN]))
    record = read_progress(tmp_path).of(EXERCISES[0])
    assert (record.checks, record.points, record.stuck_at) == (1, 2, None)
    assert record.passed_at is not None
    assert workspace.following(EXERCISES) is EXERCISES[1]


def test_a_watch_mode_keeps_what_a_command_in_another_terminal_has_written(tmp_path: Path) -> None:
    call(tmp_path, "start", "1")
    first, second, *_ = EXERCISES
    watching = Workspace(tmp_path / "my-work")
    assert call(tmp_path, "hint", "1")[0] == 0
    Workspace(tmp_path / "my-work").note(second, ExerciseResult(second.name, "A", [PASSED]))
    watching.note(first, ExerciseResult(first.name, "A", [FAILED]))
    found = read_progress(tmp_path / "my-work")
    assert (found.of(first).hints, found.of(first).checks, found.of(second).checks) == (1, 1, 1)
    assert found.of(second).passed_at is not None


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"current": null, "exercises": {"a": {"no": 1}}}', '{"current": 1, "exercises": {}}',
        '{"current": null, "exercises": {"a": {"points": "many"}}}', '{"current": null, "exercises": []}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_progress_file_is_an_error_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(RunnerError, match=r"progress\.json: not a progress file"):
        read_progress(tmp_path)
    assert (tmp_path / "progress.json").read_text() == text


def test_the_list_shows_the_progress_and_json_has_every_exercise(tmp_path: Path) -> None:
    call(tmp_path, "start", "2")
    Workspace(tmp_path / "my-work").note(EXERCISES[0], ExerciseResult(EXERCISES[0].name, "A", [PASSED]))
    code, output = call(tmp_path, "list")
    assert code == 0
    first, second, *_ = output.splitlines()
    assert "done" in first
    assert second.startswith(f"> {EXERCISES[1].name}")
    found: Any = json.loads(call(tmp_path, "list", "--json")[1])
    assert found["current"] == EXERCISES[1].name
    assert [one["exercise"] for one in found["exercises"]] == [one.name for one in EXERCISES]


def test_the_students_bundle_has_no_solutions_and_is_never_mixed_with_other_files(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    code, output = call(tmp_path, "export", str(target), "1", "3", "--without-solutions")
    assert (code, "2 exercises without solutions" in output) == (0, True)
    assert sorted(one.name for one in (target / "exercises").iterdir()) == [EXERCISES[0].name, EXERCISES[2].name]
    # The bundle is a project with only these exercises.
    assert len(call(target, "list")[1].splitlines()) == 2
    assert not list(target.rglob("solution"))
    assert not list(target.rglob("wrong"))
    code, output = call(tmp_path, "export", str(target))
    assert code == 1
    assert "is not empty; allowed: a new folder" in output


def test_a_class_shows_who_is_stuck_and_the_predictions(tmp_path: Path) -> None:
    first = EXERCISES[0]
    for name, result, choice in (("anna", PASSED, 0), ("ben", FAILED, 0), ("cleo", None, 1)):
        workspace = Workspace(tmp_path / name / "my-work")
        workspace.progress.of(first).prediction = first.file.predict.choices[choice]
        workspace.save()
        if result is not None:
            workspace.note(first, ExerciseResult(first.name, "A", [result]))
    found = read_class(tmp_path)
    table = list(class_table(found, EXERCISES))
    assert table[1].split() == ["anna", "✓"]
    assert table[2].split() == ["ben", "·", "01", "parked"]
    assert table[3].split() == ["cleo"]
    assert any(
        line.split()[:1] == ["2"] or line.split()[1:2] == ["2"]
        for line in table
        if first.file.predict.choices[0] in line
    )
    assert found.predictions(first)[first.file.predict.choices[1]] == 1
    code, output = call(tmp_path, "class", str(tmp_path), "--json")
    assert code == 0
    assert set(json.loads(output)["students"]) == {"anna", "ben", "cleo"}


def test_a_folder_without_students_is_an_error(tmp_path: Path) -> None:
    code, output = call(tmp_path, "class", str(tmp_path))
    assert code == 1
    assert "contains no student's progress; allowed" in output


@pytest.mark.parametrize("width", [56, 80, 88])
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_the_text_of_an_exercise_fits_the_terminal_and_loses_no_word(exercise: Exercise, width: int) -> None:
    text = f"{exercise_text(exercise, width)}\n{task_text(exercise, width)}"
    source = (exercise.folder / "README.md").read_text("utf-8").replace("    fastcommerce", f"    {invocation()}")
    assert text.split()[: len(source.split())] == source.split()
    assert all(task.title.split()[-1] in text for task in exercise.file.tasks)
    samples = [line for line in source.splitlines() if line.startswith(("    ", "#", "|"))]
    assert [line for line in text.splitlines() if len(line) > width and line not in samples] == []


def test_a_damaged_progress_and_a_missing_one_are_shown_and_do_not_hide_the_class(tmp_path: Path) -> None:
    for name in ("anna", "ben", "cleo"):
        (tmp_path / name).mkdir()
    Workspace(tmp_path / "anna").note(EXERCISES[0], ExerciseResult(EXERCISES[0].name, "A", [PASSED]))
    (tmp_path / "ben" / "progress.json").write_text("{")
    found = read_class(tmp_path)
    lines = {line.split()[0]: line for line in class_table(found, EXERCISES)}
    assert "✓" in lines["anna"]
    assert "not a progress file" in lines["ben"]
    assert "no progress.json" in lines["cleo"]


def test_a_submission_is_found_in_both_layouts_and_a_wrong_folder_is_an_error(tmp_path: Path) -> None:
    exercise = tmp_path / "anna" / "my-work" / EXERCISES[1].name
    exercise.mkdir(parents=True)
    assert submission(tmp_path / "anna") == submission(exercise.parent) == exercise.parent
    with pytest.raises(RunnerError, match="contains no exercise; allowed: a student's my-work"):
        submission(tmp_path)


def test_a_result_file_in_a_missing_folder_is_an_error_before_the_check(tmp_path: Path) -> None:
    code, output = call(tmp_path, "check", "1", "--output", str(tmp_path / "missing" / "result.json"))
    assert code == 1
    assert "the folder does not exist; allowed" in output
