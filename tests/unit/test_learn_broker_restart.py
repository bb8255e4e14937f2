"""A check that kills the classroom's broker, and the orders that it posts meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.admin.queue_counts import QueueCounts
from runner.config.project import load_project
from runner.errors import BrokerRefused, BrokerUnreachable, RunnerError
from runner.history.records import AttemptRow
from runner.learn import trial as trial_module
from runner.learn.classroom_broker import ClassroomBroker
from runner.learn.customer import Customer
from runner.learn.exercise import load_exercise
from runner.learn.given_step import GivenStep
from runner.learn.observation import Observation, Response
from runner.learn.trial import Trial
from tests.running import ROOT

SALE = ROOT / "exercises" / "18-sale"


class Broker:
    """A broker that answers, or raises an error."""

    error: RunnerError | None = None

    def look(self, *_: object) -> tuple[str, Mapping[str, QueueCounts | None]]:
        if self.error is not None:
            raise self.error
        return "", {"payment.order.created": QueueCounts(3, 1), "missing": None}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    found = Broker()
    monkeypatch.setattr(trial_module, "look", found.look)
    return found


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    one = Trial(tmp_path, "amqp://127.0.0.1:1/", "http://127.0.0.1:1", 1)
    (tmp_path / "output.log").touch()
    one._queues, one._project = ["payment.order.created", "missing"], load_project(SALE / "solution")
    slot = {"slot": "order_api.1", "service": "order_api", "state": "RUNNING", "pid": 1, "in_hand": 0}
    monkeypatch.setattr(one, "slots", lambda: [slot])
    return one


@pytest.mark.parametrize("error", [BrokerUnreachable("no answer"), BrokerRefused("the vhost is down")])
def test_a_system_without_its_broker_is_busy_and_keeps_its_last_counts(
    trial: Trial, broker: Broker, error: RunnerError
) -> None:
    counts = {"payment.order.created": 3, "missing": None}
    assert (trial.observe().ready, trial.observe().is_busy) == (counts, False)
    broker.error = error
    observed = trial.observe(frozenset({"payment.order.created"}))
    assert (observed.ready, observed.keys) == (counts, {})
    assert observed.is_busy
    assert not observed.is_quiet
    broker.error = None
    assert not trial.observe().is_busy


def test_a_broker_that_stays_unreachable_is_an_error_of_the_check(
    trial: Trial, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "BROKER_TIMEOUT", 0.0)
    broker.error = BrokerUnreachable("no answer")
    with pytest.raises(BrokerUnreachable):
        trial.observe()


def test_the_broker_of_another_command_is_not_killed(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="belongs to another learn command"):
        ClassroomBroker(tmp_path).restart(0)


def test_a_task_knows_that_it_kills_the_broker() -> None:
    assert [one.kills_broker for one in load_exercise(SALE).file.tasks] == [True]
    other = load_exercise(ROOT / "exercises" / "17-slow-service")
    assert [one.kills_broker for one in other.file.tasks] == [False]


def keys_of(step: GivenStep, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []

    def send(_: Customer, step: GivenStep, group: int, key: str) -> Response:
        keys.append(key)
        return Response(202, key, 0.0, 0.0, group)

    monkeypatch.setattr(Customer, "_send", send)
    customer = Customer(1)
    customer.post(step, 1)
    customer.post(step, 2)
    return keys


def test_each_check_posts_the_same_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keys_of(GivenStep(orders=3), monkeypatch)
    assert len(set(keys)) == 6
    assert keys_of(GivenStep(orders=3), monkeypatch) == keys
    assert len(set(keys_of(GivenStep(orders=3, same_key=True), monkeypatch))) == 2


def attempt(order: str, ended_at: int) -> AttemptRow:
    return AttemptRow(
        order_id=order, message_id=order, message_type="order.created", queue="payment.order.created",
        service="payment", instance="payment.1", attempt=1, replays=0, outcome="handled", error=None, delay=None,
        sent_at=None, began_at=ended_at, ended_at=ended_at, redelivered=False, replayed_at=None,
    )  # fmt: skip


def test_the_slowest_order_has_the_longest_time_until_its_last_attempt() -> None:
    responses = [Response(202, order, at, 0.01, 1) for order, at in (("a", 100.0), ("b", 101.0), ("c", 102.0))]
    attempts = [attempt("a", 103_000), attempt("b", 105_000), attempt("b", 102_000), attempt("c", 105_500)]
    assert Observation(responses=responses, attempts=attempts).slowest_order() == "b"
    assert Observation(responses=responses).slowest_order() == "a"
    assert Observation().slowest_order() is None


def test_a_wait_says_for_what() -> None:
    step = GivenStep.model_validate({"wait": [{"charges": ">9"}, {"service": "payment"}]})
    assert step.words() == "wait for more than 9 charges, payment is RUNNING"
