"""The exercises on a real RabbitMQ: solutions pass, starters fail, and each mistake gets its sentence."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.address import Address
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import SOLUTION, Exercise
from runner.learn.proof import Proof, kills_broker, prove_solution, prove_starter, prove_wrong_solution, wrong_folders
from tests.machine import in_time
from tests.proof import IS_FULL, times
from tests.rabbit import Rabbit, wait_until
from tests.shipped_exercises import EXERCISES
from tests.terminal import Terminal

#: The exercises of the README, which the suite always runs. ``make prove-exercises`` runs all.
PROMISED = ("regions", "retries", "second-worker", "event-history", "duplicates")
CHOSEN = [one for one in EXERCISES if IS_FULL or one.name[3:] in PROMISED]
SHARED = [one for one in CHOSEN if not kills_broker(one)]


def name_of(one: object) -> str:
    """Return the name of a test case."""
    return one.name if isinstance(one, Exercise | Path) else str(one)


@pytest.fixture
def classroom(rabbit: Rabbit, tmp_path: Path) -> Iterator[ClassroomBroker]:
    """Yield the suite's broker as a classroom's running broker."""
    folder = tmp_path / "classroom"
    folder.mkdir()
    content = {"port": Address.of(rabbit.url).port, "management_url": rabbit.management}
    (folder / "broker.json").write_text(json.dumps(content))
    with ClassroomBroker(folder) as broker:
        assert not broker.is_own
        yield broker


def check(proof: Proof) -> None:
    """Fail with the problems of a proof."""
    assert list(proof.problems) == [], proof.what


@pytest.mark.parametrize("exercise", SHARED, ids=name_of)
def test_the_solution_passes(exercise: Exercise, classroom: ClassroomBroker) -> None:
    check(prove_solution(exercise, classroom))


@pytest.mark.parametrize("exercise", SHARED[: times(1, len(SHARED))], ids=name_of)
def test_the_starter_fails(exercise: Exercise, classroom: ClassroomBroker) -> None:
    check(prove_starter(exercise, classroom))


@pytest.mark.parametrize(
    ("exercise", "folder"),
    [(one, folder) for one in SHARED for folder in wrong_folders(one)][:: times(24, 1)],
    ids=name_of,
)
def test_a_wrong_solution_gets_its_sentence(exercise: Exercise, folder: Path, classroom: ClassroomBroker) -> None:
    check(prove_wrong_solution(exercise, classroom, folder))


@pytest.fixture
def learner(rabbit: Rabbit, tmp_path: Path) -> Iterator[Terminal]:
    """Yield the watch mode of the first exercise on the suite's broker."""
    folder = tmp_path / "my-work" / ".classroom"
    folder.mkdir(parents=True)
    content = {"port": Address.of(rabbit.url).port, "management_url": rabbit.management}
    (folder / "broker.json").write_text(json.dumps(content))
    terminal = Terminal([sys.executable, "-m", "runner", "learn"], tmp_path)
    yield terminal
    terminal.close()


def test_a_learner_predicts_saves_a_mistake_reads_the_sentence_and_passes(learner: Terminal, tmp_path: Path) -> None:
    first = EXERCISES[0]
    learner.wait_for("your answer")
    learner.type("a")
    learner.wait_for("only Enter")
    file = tmp_path / "my-work" / first.name / "config.yaml"
    file.write_text(file.read_text() + "# saved\n")
    learner.wait_for("checking ...")
    learner.wait_for("expected")
    learner.wait_for("only Enter")
    learner.type("h")
    learner.wait_for("hint 1 of 3")
    file.write_text((first.folder / SOLUTION / "config.yaml").read_text())
    learner.wait_for("You predicted")
    learner.wait_for("your answer")
    learner.type("")
    learner.wait_for("next exercise")
    learner.type("x")
    learner.wait_for("type q and Enter to quit")
    learner.type("q")
    wait_until(lambda: learner.process.poll() is not None, in_time(20), "the program exits")
    assert learner.process.returncode == 0
    progress = json.loads((tmp_path / "my-work" / "progress.json").read_text())
    record = progress["exercises"][first.name]
    assert record["prediction"] == first.file.predict.choices[0]
    assert record["checks"] == 2
    assert record["passed_at"] <= time.time()
    assert record["points"] == first.points
