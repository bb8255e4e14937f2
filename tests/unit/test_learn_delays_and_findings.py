"""The delay of e-mails, the lint findings of a failed check, and the keys of a queue in the classroom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.learn.evaluation import compare
from runner.learn.exercise import load_exercise
from runner.learn.expectation import Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.learner_files import LearnerFiles
from runner.learn.observation import LogLine, Observation, Response
from runner.learn.trial import Trial
from tests.running import ROOT

EXERCISE = ROOT / "exercises" / "02-first-queue"


def mailed_after(seconds: float) -> Observation:
    posted = Response(202, "order-1", 100.0, 0.01, 1)
    mail = LogLine(100.0 + seconds, "notification", "notification.1", "e-mail", "order-1", "payment.success")
    return Observation(responses=[posted], lines=[mail])


@pytest.mark.parametrize(("seconds", "is_met"), [(0.1, False), (1.0, True), (4.9, True), (5.1, False)])
def test_the_email_about_a_payment_can_be_expected_neither_early_nor_late(seconds: float, is_met: bool) -> None:
    one = Expectation.model_validate({"p95": {"min": "1s", "max": "5s"}})
    seen = compare(one, mailed_after(seconds), FilesSeen())
    assert seen.is_met is is_met
    assert seen.expected == "95 % of the e-mails within 5 s, none before 1 s"


def test_no_minimum_is_met_before_the_first_response() -> None:
    one = Expectation.model_validate({"p95": {"min": "1s", "max": "5s"}})
    assert not compare(one, Observation(), FilesSeen()).is_met


@pytest.mark.parametrize(("count", "text"), [(1, "1 process of payment"), (2, "2 processes of payment")])
def test_a_number_of_processes_is_singular_or_plural(count: int, text: str) -> None:
    slots = [{"service": "payment", "state": "RUNNING"}] * count
    one = Expectation.model_validate({"instances": {"payment": count}})
    seen = compare(one, Observation(slots=slots), FilesSeen())
    assert (seen.expected, seen.saw) == (text, text)


@pytest.fixture
def unread_queue(tmp_path: Path) -> Path:
    """An exercise's folder whose solution has a queue without a reader."""
    (tmp_path / "starter").symlink_to(EXERCISE / "starter")
    (tmp_path / "README.md").write_text("# 2. Your first queue\n", "utf-8")
    return tmp_path


@pytest.mark.parametrize(("ignored", "number"), [([], 1), (["unread-queue"], 0)])
def test_a_failed_check_shows_no_ignored_findings(unread_queue: Path, ignored: list[str], number: int) -> None:
    data: dict[str, Any] = yaml.safe_load((EXERCISE / "exercise.yaml").read_text("utf-8"))
    data["ignored_findings"] = ignored
    (unread_queue / "exercise.yaml").write_text(yaml.safe_dump(data), "utf-8")
    files = LearnerFiles(load_exercise(unread_queue), EXERCISE / "solution")
    assert files.refusal() is None
    assert len(files.finding_lines()) == number


def test_the_keys_of_a_queue_are_read_again_only_after_a_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial = Trial(tmp_path, "amqp://guest:guest@127.0.0.1:1/", "http://127.0.0.1:1", 1)
    in_queue = ["order.created"]
    reads = 0

    def request(*_: object, **__: object) -> list[dict[str, str]]:
        nonlocal reads
        reads += 1
        return [{"routing_key": key} for key in in_queue]

    monkeypatch.setattr(trial._api, "request", request)
    assert [trial._keys("reports", 1) for _ in range(30)] == [["order.created"]] * 30
    assert reads == 1
    in_queue.append("order.cancelled")
    assert trial._keys("reports", 2) == ["order.created", "order.cancelled"]
    assert reads == 2
