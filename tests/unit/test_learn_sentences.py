"""The sentences about a task of an exercise, and the line to look at."""

from __future__ import annotations

from typing import Any

import pytest

from runner.learn.checker import Outcome, _judge
from runner.learn.evaluation import compare
from runner.learn.exercise import Task, load_exercise
from runner.learn.expectation import Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.learner_files import LearnerFiles
from runner.learn.observation import LogLine, Observation
from runner.learn.result_text import result_lines
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict
from tests.running import ROOT

TASK = Task.model_validate(
    {
        "id": "paid",
        "title": "The orders are paid.",
        "expect": [{"charges": ">=2"}],
        "when_right": [{"saw": {"charges": ">2"}, "say": "There were {saw} charges for 2 orders."}],
        "when_wrong": [{"saw": {"charges": "<2"}, "say": "There were only {saw} charges."}],
    }
)


def judged(charges: int) -> TaskResult:
    lines = [LogLine(1.0, "payment", "payment.1", "approved", f"order-{n}", "payment.success") for n in range(charges)]
    observed, folder = Observation(lines=lines), ROOT / "exercises" / "01-first-event"
    files = LearnerFiles(load_exercise(folder), folder / "starter")
    seen = compare(TASK.expect[0], observed, files.seen)
    return _judge(TASK, files, Outcome(observed, None if seen.is_met else seen))


@pytest.mark.parametrize(
    ("charges", "verdict", "sentence"),
    [
        (1, Verdict.FAIL, "There were only 1 charges."),
        (2, Verdict.PASS, ""),
        (3, Verdict.PASS, "There were 3 charges for 2 orders."),
    ],
)
def test_a_sentence_about_a_passed_task_is_printed_if_its_facts_were_seen(
    charges: int, verdict: Verdict, sentence: str
) -> None:
    found = judged(charges)
    assert (found.verdict, found.say) == (verdict, sentence)


def test_the_sentence_follows_the_line_of_its_task() -> None:
    result = ExerciseResult("01-first-event", "Your first event", [judged(3)])
    assert list(result_lines(result, width=60, colour=False)) == [
        "✓ The orders are paid. (1 of 1 point)",
        "  There were 3 charges for 2 orders.",
    ]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("topology.yaml:1", "# The exchanges and queues in RabbitMQ."),
        ("topology.yaml:999", ""),
        ("topology.yaml:0", ""),
        ("plugins/payment.py", ""),
        ("", ""),
    ],
)
def test_a_place_shows_its_line_only_if_it_has_one(place: str, line: str) -> None:
    folder = ROOT / "exercises" / "01-first-event"
    assert LearnerFiles(load_exercise(folder), folder / "starter").line_at(place) == line


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"charges": 1}, "1 charge"),
        ({"charges": ">1"}, "more than 1 charge"),
        ({"charges": "1..3"}, "1 to 3 charges"),
        ({"charges": "0..1"}, "0 to 1 charges"),
        ({"charges": "<2"}, "fewer than 2 charges"),
        ({"emails": {"type": "order.created", "count": ">=1"}}, "at least 1 e-mail for order.created"),
        ({"order": {"status": "paid", "count": 1}}, "1 order paid"),
        ({"attempts": 1}, "1 attempt by payment for each order"),
        ({"response": 503, "count": 1}, "1 response 503"),
        ({"instances": {"payment": 1, "audit": 2}}, "1 process of payment, 2 processes of audit"),
        ({"rows": {"count": 1}}, "1 row"),
        ({"event": "order.created", "count": 1}, "1 order.created event"),
        ({"ledger": {"lost": 1}}, "1 order lost"),
        ({"log": {"matches": "a", "count": 1}}, "1 log line with 'a'"),
        ({"changed": "<=1"}, "at most 1 changed line"),
    ],
)
def test_an_expected_number_has_the_right_noun(written: dict[str, Any], expected: str) -> None:
    assert compare(Expectation.model_validate(written), Observation(), FilesSeen()).expected == expected
