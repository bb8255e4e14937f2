"""The trial of an exercise: its files, its steps, and the place that a sentence names."""

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.learn.exercise import Exercise, load_exercise
from runner.learn.given_step import Fault, GivenStep
from runner.learn.learner_files import LearnerFiles
from runner.learn.performer import Performer
from runner.learn.trial_files import TrialFiles
from tests.running import ROOT


@pytest.fixture(scope="module")
def exercise() -> Exercise:
    return load_exercise(ROOT / "exercises" / "01-first-event")


@pytest.mark.parametrize("adds_audit", [True, False])
def test_audit_is_added_unless_the_learner_must_add_it(tmp_path: Path, exercise: Exercise, adds_audit: bool) -> None:
    files = TrialFiles(tmp_path, "amqp://127.0.0.1/x", 8000, records_events=True, adds_audit=adds_audit)
    files.write(exercise.starter)
    services = yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8"))["services"]
    assert ("audit" in services) is adds_audit


class Commanded:
    """A trial that only notes its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.background = folder, 0
        self.commands: list[tuple[str, str | None]] = []
        self.is_over = threading.Event()

    def slots(self) -> list[dict[str, Any]]:
        return [{"slot": "payment.1", "service": "payment", "state": "RUNNING"}]

    def control(self, command: str, target: str | None = None) -> None:
        self.commands.append((command, target))

    def run_command(self, command: str, _: str, queue: str, *__: str) -> str:
        self.commands.append((command, queue))
        active = self.folder / "var" / "faults"
        active.mkdir(parents=True)
        (active / "duplicate.1").touch()
        assert self.is_over.wait(30)
        return ""


def test_a_service_that_the_learner_has_not_added_is_not_controlled(tmp_path: Path) -> None:
    trial = Commanded(tmp_path)
    performer = Performer(trial, TrialFiles(tmp_path, "", 0, records_events=False), tmp_path, lambda _: None)  # type: ignore[arg-type]
    performer.perform((GivenStep(stop="fraud"), GivenStep(stop="payment"), GivenStep(start="payment.1")))
    assert trial.commands == [("stop", "payment"), ("start", "payment.1")]


def test_a_duplication_runs_beside_the_steps_that_follow(tmp_path: Path) -> None:
    trial = Commanded(tmp_path)
    performer = Performer(trial, TrialFiles(tmp_path, "", 0, records_events=False), tmp_path, lambda _: None)  # type: ignore[arg-type]
    duplication = Fault(duplicate="payment.order.created", count=3)
    performer.perform((GivenStep(fault=duplication), GivenStep(stop="payment")))
    assert trial.commands == [("fault", "payment.order.created"), ("stop", "payment")]
    assert trial.background == 1
    trial.is_over.set()
    performer.join()
    assert trial.background == 0


def test_a_place_without_a_line_shows_no_line(exercise: Exercise) -> None:
    files = LearnerFiles(exercise, exercise.starter)
    assert files.line_at("config.yaml") == ""
    assert files.line_at("config.yaml:1").startswith("#")
