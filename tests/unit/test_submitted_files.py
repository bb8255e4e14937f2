"""Submitted files, of which a check uses only those that were compared with the exercise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.learn.exercise import SOLUTION, Exercise, load_exercise
from runner.learn.learner_files import LearnerFiles
from runner.learn.trial_files import TrialFiles
from tests.running import ROOT


@pytest.fixture(scope="module")
def exercise() -> Exercise:
    return load_exercise(ROOT / "exercises" / "01-first-event")


@pytest.fixture
def folder(tmp_path: Path, exercise: Exercise) -> Path:
    """The files of a learner, which may differ only in config.yaml."""
    shutil.copytree(exercise.starter, tmp_path / "submitted")
    (tmp_path / "submitted" / "plugins").mkdir()
    return tmp_path / "submitted"


def add_plugin(folder: Path) -> None:
    (folder / "plugins" / "payment.py").write_text("pass\n")


def add_large_plugin(folder: Path) -> None:
    (folder / "plugins" / "payment.py").write_text("#" * 1_100_000)


def add_empty_plugin(folder: Path) -> None:
    (folder / "plugins" / "payment.py").touch()


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "plugins" / "payment.py")


def link_to_solution(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to(ROOT / "exercises" / "01-first-event" / SOLUTION / "config.yaml")


def link_to_nothing(folder: Path) -> None:
    (folder / "plugins" / "payment.py").symlink_to("/nowhere")


def link_plugins(folder: Path) -> None:
    (folder / "plugins").rename(folder / ".git")
    (folder / ".git" / "payment.py").write_text("pass\n")
    (folder / "plugins").symlink_to(".git")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (add_plugin, "plugins/payment.py: is not part of the exercise"),
        (add_empty_plugin, "plugins/payment.py: is not part of the exercise"),
        (add_large_plugin, "plugins/payment.py: has 1100000 bytes; allowed: 1048576 bytes"),
        (add_pipe, "plugins/payment.py: is not a regular file"),
        (link_to_solution, "config.yaml: is a symbolic link"),
        (link_to_nothing, "plugins/payment.py: is a symbolic link"),
        (link_plugins, "plugins: is a symbolic link"),
    ],
)
def test_files_that_an_exercise_does_not_name_are_refused(
    folder: Path, exercise: Exercise, change: Callable[[Path], None], problem: str
) -> None:
    assert LearnerFiles(exercise, folder).refusal() is None
    change(folder)
    (found,) = LearnerFiles(exercise, folder).refusal() or []
    assert found.startswith(problem)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, exercise: Exercise) -> None:
    (tmp_path / exercise.name).symlink_to(exercise.folder / SOLUTION)
    found = LearnerFiles(exercise, tmp_path / exercise.name).refusal()
    assert found == [f"{exercise.name}: is a symbolic link; allowed: a folder"]


@pytest.mark.parametrize(
    "name", ["plugins/__pycache__/payment.pyc", "plugins/var/evil.py", "plugins/.evil.py", "config.yaml~", "#a#"]
)
def test_files_that_a_run_or_an_editor_writes_are_neither_refused_nor_used(
    tmp_path: Path, folder: Path, exercise: Exercise, name: str
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("written by an editor")
    assert LearnerFiles(exercise, folder).refusal() is None
    TrialFiles(tmp_path / "trial", "amqp://127.0.0.1/x", 8000, records_events=False).write(folder)
    assert (tmp_path / "trial" / "config.yaml").is_file()
    texts = [one.read_bytes() for one in (tmp_path / "trial").rglob("*") if one.is_file()]
    assert b"written by an editor" not in texts


def test_a_plugin_of_the_learner_replaces_the_shipped_one(tmp_path: Path) -> None:
    exercise = load_exercise(ROOT / "exercises" / "10-poison-message")
    TrialFiles(tmp_path, "amqp://127.0.0.1/x", 8000, records_events=False).write(exercise.folder / SOLUTION)
    written = (tmp_path / "plugins" / "payment.py").read_bytes()
    assert written == (exercise.folder / SOLUTION / "plugins" / "payment.py").read_bytes()
