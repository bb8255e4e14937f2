"""A reload during another preparation: the newer programs are passed on last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from runner.cli.reload import Reload
from runner.errors import EXIT_OK, BrokerUnreachable, ConfigError, RunnerError, StoreUnreachable
from runner.preparation.preparation_client import Preparation, PreparedPrograms
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program
from runner.supervisor.timeline import Timeline
from tests.rabbit import wait_until


def programs(name: str) -> list[Program]:
    return [Program(name, ("true",))]


class Order:
    """The order in which tasks are called and programs are passed on. ``prepare`` waits until it may return."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.then: list[Callable[[], None] | None] = []
        self.is_unfinished = self.is_away = False
        self.is_preparing, self.may_return = threading.Event(), threading.Event()
        self.timeline = Timeline()
        self.reloads = Reload(cast(Preparation, self), self.update, Journal(), self.timeline)

    def prepare(self) -> PreparedPrograms | None:
        self.is_preparing.set()
        assert self.may_return.wait(20)
        self.events.append("prepared")
        return PreparedPrograms(programs("old"), [])

    def reload(self) -> PreparedPrograms:
        self.events.append("reloaded")
        return PreparedPrograms(programs("new"), [], self.is_unfinished)

    def finish(self) -> PreparedPrograms | None:
        self.events.append("finished")
        if self.is_away:
            raise BrokerUnreachable("gone")
        return None

    def update(self, given: Sequence[Program], then: Callable[[], None] | None) -> None:
        self.then.append(then)
        self.events.append(f"update {given[0].service}")


def test_a_reload_during_a_preparation_passes_its_programs_on_last() -> None:
    order = Order()
    first = threading.Thread(target=order.reloads.prepare)
    first.start()
    assert order.is_preparing.wait(20)
    codes: list[int] = []
    second = threading.Thread(target=lambda: codes.append(order.reloads.run()))
    second.start()
    wait_until(second.is_alive)
    assert order.events == []
    order.may_return.set()
    first.join(20)
    second.join(20)
    assert order.events == ["prepared", "update old", "reloaded", "update new"]
    assert codes == [EXIT_OK]


def test_a_failed_preparation_lets_the_next_reload_continue() -> None:
    order = Order()

    def fail() -> PreparedPrograms | None:
        raise BrokerUnreachable("gone")

    order.prepare = fail  # type: ignore[method-assign]
    with pytest.raises(BrokerUnreachable):
        order.reloads.prepare()
    assert order.reloads.run() == EXIT_OK
    assert order.events == ["reloaded", "update new"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["config.yaml:1: wrong"]), 78), (BrokerUnreachable("gone"), 75), (StoreUnreachable("gone"), 74),
        (RunnerError("no"), 1), (ValueError("a bug"), 1),
    ],
)  # fmt: skip
def test_a_reload_that_fails_has_the_exit_code_of_its_error(error: Exception, code: int) -> None:
    order = Order()

    def fail() -> PreparedPrograms:
        raise error

    order.reload = fail  # type: ignore[method-assign]
    assert order.reloads.run() == code
    assert order.events == []


def test_only_the_latest_reload_removes_leftover_parts() -> None:
    order = Order()
    order.is_unfinished = True
    order.reloads.run()
    order.reloads.run()
    first, second = order.then
    assert first is not None
    assert second is not None
    first()
    assert "finished" not in order.events
    second()
    assert order.events[-1] == "finished"


def test_the_timeline_reports_the_end_of_the_removal() -> None:
    order = Order()
    order.is_unfinished = True
    assert order.reloads.run() == EXIT_OK
    before = [one.text for one in order.timeline.after(0)]
    finish = order.then[-1]
    assert finish is not None
    finish()
    assert [(one.kind, one.text) for one in order.timeline.after(len(before))] == [
        ("reloaded", "bindings and policies that only the replaced processes needed are removed")
    ]


def test_a_reload_without_leftover_parts_removes_nothing() -> None:
    order = Order()
    order.reloads.run()
    assert order.then == [None]


def test_a_removal_that_fails_without_the_broker_does_not_stop_the_runner() -> None:
    order = Order()
    order.is_unfinished = order.is_away = True
    order.reloads.run()
    (then,) = order.then
    assert then is not None
    then()
    order.reloads.run()
    assert order.events[-2:] == ["reloaded", "update new"]
