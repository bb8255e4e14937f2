"""The watch mode of the classroom: its review question and its line width."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import pytest

from runner.learn import lesson
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.dialogue import Dialogue
from runner.learn.exercise import Exercise
from runner.learn.workspace import Workspace
from tests.shipped_exercises import EXERCISES

FIRST = EXERCISES[:3]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace in which the first exercise is passed."""
    workspace = Workspace(tmp_path)
    workspace.progress.of(FIRST[0]).passed_at = 1.0
    return workspace


def test_a_session_asks_one_review_question_at_its_start(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def one(_: lesson.Lesson, exercise: Exercise, __: Future[ClassroomBroker]) -> None:
        done.append(exercise)
        workspace.progress.of(exercise).passed_at = 2.0

    monkeypatch.setattr(lesson, "ClassroomBroker", lambda _: nullcontext())
    monkeypatch.setattr(lesson.Lesson, "_one", one)
    monkeypatch.setattr(Dialogue, "read_line", lambda _: "a")
    lesson.Lesson(FIRST, workspace, is_large=False).run(FIRST[1])
    assert done == FIRST[1:]
    assert capsys.readouterr().out.count("A question about") == 1


@pytest.mark.parametrize("is_large", [False, True])
def test_explanations_and_hints_are_wrapped(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_large: bool
) -> None:
    monkeypatch.setattr(Dialogue, "read_line", lambda _: "")
    room = lesson.Lesson(FIRST, workspace, is_large=is_large)
    for exercise in FIRST:
        room.explain(exercise)
        room.hint(exercise)
    printed = capsys.readouterr().out
    assert FIRST[0].file.explain.split()[-1] in printed
    lines = [line for line in printed.splitlines() if not line.startswith("your answer")]
    assert max(map(len, lines)) <= room.width
