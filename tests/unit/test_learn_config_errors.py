"""Files with configuration errors in the check of an exercise."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from runner.learn.checker import check_exercise
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.exercise import load_exercise
from runner.learn.verdict import Verdict

#: Both of the first sentences would be true of a system that has not run.
EXERCISE = """\
title: Unread orders
level: worked
minutes: 6
predict: {ask: "Who reads the queue?", choices: [payment, nobody], answer: payment}
edit: [config.yaml]
hints: ["Who?", "Where?", "payment: ___"]
tasks:
  - id: paid
    title: Each order is paid.
    given: [{orders: 1}]
    expect: [{charges: 1}]
    when_wrong:
      - {saw: {charges: 0}, say: No order was charged.}
      - {saw: {route: {exchange: orders, key: order.created, misses: [payment]}}, say: The key matches no binding.}
      - {saw: {config_error: "'instanses'"}, say: "The key is instances: {saw}"}
explain: It was paid.
review: {ask: "Who reads the queue?", choices: [payment, nobody], answer: payment}
"""
NO_BROKER = cast(ClassroomBroker, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    starter = tmp_path / "01-unread" / "starter"
    starter.mkdir(parents=True)
    (starter.parent / "exercise.yaml").write_text(EXERCISE)
    (starter / "topology.yaml").write_text("exchanges: {orders: {type: topic}}\nqueues: {payment: {}}\n")
    (starter / "config.yaml").write_text("services:\n  payment:\n    consumes: [payment]\n")
    return starter.parent


def test_a_configuration_error_gets_its_own_sentence_and_none_about_a_system_that_has_not_run(folder: Path) -> None:
    exercise = load_exercise(folder)
    (folder / "starter" / "config.yaml").write_text("services:\n  payment:\n    instanses: 2\n")

    (task,) = check_exercise(exercise, folder / "starter", NO_BROKER).tasks

    assert task.verdict is Verdict.FAIL
    assert task.say.startswith("The key is instances: config.yaml:3")
    assert task.line == "    instanses: 2"


def test_a_configuration_error_without_a_sentence_is_printed_alone(folder: Path) -> None:
    exercise = load_exercise(folder)
    (folder / "starter" / "config.yaml").write_text("services:\n  payment:\n    concurrency: none\n")

    (task,) = check_exercise(exercise, folder / "starter", NO_BROKER).tasks

    assert (task.say, task.look) == ("", "config.yaml:3")
    assert "concurrency" in task.saw
