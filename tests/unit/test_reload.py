"""Taking over the files beside a preparation that is under way: the newer programs are the last ones passed on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from runner.cli.reload import Outcome, Reload
from runner.errors import BrokerAway
from runner.preparation.remote import Preparation, Taken
from runner.supervisor.output.journal import Journal
from runner.supervisor.program import Program
from tests.rabbit import wait_until


def programs(name: str) -> list[Program]:
    return [Program(name, ("true",))]


class Order:
    """Records in which order tasks are called and programs are passed on; ``prepare`` waits until it may return."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_preparing, self.may_return = threading.Event(), threading.Event()
        self.reload = Reload(cast(Preparation, self), self.update, Journal())

    def prepare(self) -> Taken | None:
        self.is_preparing.set()
        assert self.may_return.wait(20)
        self.events.append("prepared")
        return Taken(programs("old"), [])

    def take_over(self) -> Taken:
        self.events.append("taken over")
        return Taken(programs("new"), [])

    def update(self, given: Sequence[Program], *_: Any) -> None:
        self.events.append(f"update {given[0].service}")


def test_a_reload_during_a_preparation_passes_its_programs_on_last() -> None:
    order = Order()
    first = threading.Thread(target=order.reload.prepare)
    first.start()
    assert order.is_preparing.wait(20)
    taken: list[Outcome] = []
    second = threading.Thread(target=lambda: taken.append(order.reload.take()))
    second.start()
    wait_until(second.is_alive)
    assert order.events == []
    order.may_return.set()
    first.join(20)
    second.join(20)
    assert order.events == ["prepared", "update old", "taken over", "update new"]
    assert taken == [Outcome.DONE]


def test_a_preparation_that_fails_lets_the_next_reload_go_on() -> None:
    order = Order()

    def fail() -> Taken | None:
        raise BrokerAway("gone")

    order.prepare = fail  # type: ignore[method-assign]
    with pytest.raises(BrokerAway):
        order.reload.prepare()
    assert order.reload.take() is Outcome.DONE
    assert order.events == ["taken over", "update new"]
