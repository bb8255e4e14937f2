"""A reload during another preparation: the newer programs are passed on last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from runner.cli.reload import Reload, ReloadOutcome
from runner.errors import BrokerAway
from runner.preparation.preparation_client import Preparation, Taken
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program
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
        self.reload = Reload(cast(Preparation, self), self.update, Journal())

    def prepare(self) -> Taken | None:
        self.is_preparing.set()
        assert self.may_return.wait(20)
        self.events.append("prepared")
        return Taken(programs("old"), [])

    def take_over(self) -> Taken:
        self.events.append("taken over")
        return Taken(programs("new"), [], self.is_unfinished)

    def finish(self) -> Taken | None:
        self.events.append("finished")
        if self.is_away:
            raise BrokerAway("gone")
        return None

    def update(self, given: Sequence[Program], then: Callable[[], None] | None) -> None:
        self.then.append(then)
        self.events.append(f"update {given[0].service}")


def test_a_reload_during_a_preparation_passes_its_programs_on_last() -> None:
    order = Order()
    first = threading.Thread(target=order.reload.prepare)
    first.start()
    assert order.is_preparing.wait(20)
    taken: list[ReloadOutcome] = []
    second = threading.Thread(target=lambda: taken.append(order.reload.take()))
    second.start()
    wait_until(second.is_alive)
    assert order.events == []
    order.may_return.set()
    first.join(20)
    second.join(20)
    assert order.events == ["prepared", "update old", "taken over", "update new"]
    assert taken == [ReloadOutcome.DONE]


def test_a_failed_preparation_lets_the_next_reload_continue() -> None:
    order = Order()

    def fail() -> Taken | None:
        raise BrokerAway("gone")

    order.prepare = fail  # type: ignore[method-assign]
    with pytest.raises(BrokerAway):
        order.reload.prepare()
    assert order.reload.take() is ReloadOutcome.DONE
    assert order.events == ["taken over", "update new"]


def test_only_the_latest_reload_removes_leftover_parts() -> None:
    order = Order()
    order.is_unfinished = True
    order.reload.take()
    order.reload.take()
    first, second = order.then
    assert first is not None
    assert second is not None
    first()
    assert "finished" not in order.events
    second()
    assert order.events[-1] == "finished"


def test_a_reload_without_leftover_parts_removes_nothing() -> None:
    order = Order()
    order.reload.take()
    assert order.then == [None]


def test_a_removal_that_fails_without_the_broker_does_not_stop_the_runner() -> None:
    order = Order()
    order.is_unfinished = order.is_away = True
    order.reload.take()
    (then,) = order.then
    assert then is not None
    then()
    order.reload.take()
    assert order.events[-2:] == ["taken over", "update new"]
