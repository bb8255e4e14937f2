"""Differences between an object and the broker's: refused ones, and ones that RabbitMQ does not compare."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.topology_file import Retire
from runner.topology.live import Live, LiveQueue
from runner.topology.model import Exchange, Objects, Policy, Queue
from runner.topology.plan import Change, Mark, Plan
from runner.topology.planner import make_plan
from runner.topology.retire import missing

CLASSIC = {"x-queue-type": "classic"}


def planned(ours: Exchange | Queue, theirs: Exchange | Queue, version: tuple[int, ...]) -> tuple[list[str], list[str]]:
    """Return the reason of the replacement, if there is one, and the warnings."""
    if isinstance(ours, Queue) and isinstance(theirs, Queue):
        objects = Objects(queues=(ours,))
        live = Live(version=version, queues={theirs.name: LiveQueue(theirs)})
    elif isinstance(ours, Exchange) and isinstance(theirs, Exchange):
        objects = Objects(exchanges=(ours,))
        live = Live(version=version, exchanges={theirs.name: theirs})
    plan = make_plan(objects, live, Retire())
    return [one.why for one in plan.of(Mark.REPLACE)], list(plan.warnings)


NOT_COMPARED: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, ...]]] = [
    ("classic", {}, {"x-ha-policy": "all"}, (3, 10, 8)),
    ("classic", {"x-ha-policy": "all"}, {}, (4, 3, 6)),
    ("quorum", {"x-message-deduplication": True}, {"x-message-deduplication": 1}, (4, 3, 6)),
    ("classic", {}, {"x-max-lenght": 5}, (4, 0, 5)),
    ("stream", {"x-stream-filter-size-bytes": 16}, {"x-stream-filter-size-bytes": 32}, (4, 0, 5)),
    ("quorum", {"x-quorum-target-group-size": 3}, {}, (4, 3, 6)),
    ("quorum", {"x-consumer-timeout": 1000}, {}, (4, 0, 5)),
    ("classic", {"x-consumer-timeout": 1000}, {}, (3, 12, 0)),
    ("quorum", {}, {"note": {"by": ["me"]}}, (4, 3, 6)),
]


@pytest.mark.parametrize(("kind", "ours", "theirs", "version"), NOT_COMPARED, ids=range(len(NOT_COMPARED)))
def test_an_argument_that_rabbitmq_does_not_compare_is_a_warning_and_no_replacement(
    kind: str, ours: dict[str, Any], theirs: dict[str, Any], version: tuple[int, ...]
) -> None:
    base = {"x-queue-type": kind}
    replaced, warnings = planned(Queue("q", True, {**base, **ours}), Queue("q", True, {**base, **theirs}), version)
    assert replaced == []
    (warning,) = warnings
    (key,) = ours.keys() | theirs.keys()
    assert warning.startswith(f"queue 'q': {key} is ")
    assert warning.endswith(" on the broker; RabbitMQ does not compare it, and the queue keeps its value")


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "version"),
    [
        ("classic", {"x-max-length": 1}, {}, (3, 10, 8)),
        ("quorum", {"x-delivery-limit": 5}, {"x-delivery-limit": 6}, (4, 3, 6)),
        ("stream", {"x-stream-filter-size-bytes": 16}, {}, (4, 3, 6)),
        ("quorum", {"x-consumer-timeout": 1000}, {}, (4, 3, 6)),
        ("quorum", {"x-delayed-retry-min": 5}, {}, (4, 3, 6)),
        ("classic", {"x-max-priority": 5}, {"x-ha-policy": "all"}, (4, 0, 5)),
    ],
)
def test_an_argument_that_rabbitmq_compares_needs_a_replacement(
    kind: str, ours: dict[str, Any], theirs: dict[str, Any], version: tuple[int, ...]
) -> None:
    base = {"x-queue-type": kind}
    (why,), _ = planned(Queue("q", True, {**base, **ours}), Queue("q", True, {**base, **theirs}), version)
    assert next(iter(ours)) in why
    assert "x-ha-policy" not in why


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "is_replaced"),
    [
        ("topic", {"alternate-exchange": "a"}, {"alternate-exchange": "b"}, True),
        ("x-rtopic", {}, {"alternate-exchange": "b"}, True),
        ("topic", {}, {"x-event": 5}, False),
        ("x-consistent-hash", {"hash-header": "a"}, {"hash-header": "b"}, False),
        ("x-recent-history", {"x-recent-history-length": 5}, {}, False),
        ("x-delayed-message", {"x-delayed-type": "topic"}, {"x-delayed-type": "direct"}, False),
        ("x-rtopic", {"policy": "a"}, {}, False),
    ],
)
def test_of_an_exchange_rabbitmq_compares_only_the_alternate_exchange(
    kind: str, ours: dict[str, Any], theirs: dict[str, Any], is_replaced: bool
) -> None:
    there = Exchange("e", kind, arguments=theirs)
    replaced, warnings = planned(Exchange("e", kind, arguments=ours), there, (4, 3, 6))
    assert bool(replaced) == is_replaced
    assert bool(warnings) != is_replaced


def test_equal_unknown_arguments_and_another_type_give_no_warning() -> None:
    same = Queue("q", True, {**CLASSIC, "x-ha-policy": "all"})
    assert planned(same, same, (3, 10, 8)) == ([], [])
    other = Queue("q", True, {"x-queue-type": "quorum"})
    replaced, warnings = planned(other, same, (3, 10, 8))
    assert replaced == ["type is 'quorum' here, but 'classic' on the broker"]
    assert warnings == []


@pytest.mark.parametrize(
    ("section", "name", "warning"),
    [
        (
            "queues",
            "payment.order.creatd",
            "the broker has no 'payment.order.creatd'; did you mean 'payment.order.created'?",
        ),
        ("queues", "gone", "the broker has no 'gone'; remove the entry if the object has been deleted"),
        ("queues", "orders", "the broker has no 'orders'; remove the entry if the object has been deleted"),
        ("exchanges", "orders.topik", "the broker has no 'orders.topik'; did you mean 'orders.topic'?"),
        (
            "exchanges",
            "payments.topic",
            "the broker has no 'payments.topic'; remove the entry if the object has been deleted",
        ),
        ("policies", "caps", "the broker has no 'caps'; did you mean 'cap'?"),
        ("queues", "payment.order.created", None),
        ("exchanges", "orders.topic", None),
        ("policies", "cap", None),
    ],
)
def test_a_name_under_retire_that_the_broker_lacks_is_a_warning(section: str, name: str, warning: str | None) -> None:
    live = Live(
        version=(4, 0, 5),
        queues={"payment.order.created": LiveQueue(Queue("payment.order.created", True, CLASSIC))},
        exchanges={"orders.topic": Exchange("orders.topic", "topic")},
        policies={"cap": Policy("cap", "^x", "queues", {"max-length": 5})},
    )
    found = list(missing(live, Retire.model_validate({section: [name]})))
    assert found == ([] if warning is None else [(("retire", section, 0), f"retire.{section}: {warning}")])


QUEUE = Queue("q")


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (Plan(), 0),
        (Plan((Change(Mark.UNMANAGED, QUEUE),), warnings=("a line",)), 0),
        (Plan(uncompared=("all of it",)), 4),
        (Plan((Change(Mark.UNMANAGED, QUEUE),), uncompared=("a policy",)), 4),
        (Plan((Change(Mark.CREATE, QUEUE),), uncompared=("a policy",)), 2),
        (Plan((Change(Mark.RETIRE, QUEUE),)), 2),
        (Plan((Change(Mark.CHANGE, QUEUE), Change(Mark.REPLACE, QUEUE)), uncompared=("a policy",)), 3),
        (Plan((Change(Mark.REPLACE, QUEUE),), problems=("a type",)), 78),
        (Plan(uncompared=("a policy",), problems=("a type",)), 78),
    ],
)
def test_a_plan_with_an_incomplete_comparison_has_its_own_exit_code(plan: Plan, code: int) -> None:
    assert plan.exit_code == code
