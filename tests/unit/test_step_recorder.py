"""The steps that a worker records for its messages and events."""

from __future__ import annotations

import mmap
import time
from typing import Any

import pytest

from runner.headers import SENT_AT
from runner.ipc import step_memory
from runner.ipc.step_memory import (
    DEAD_LETTERED,
    DELIVERED,
    HANDLED,
    PUBLISHED,
    REJECTED,
    RETRIED,
    MessageStep,
    StepEdge,
    StepMemory,
    StepReader,
)
from runner.messages import ATTEMPT_TYPE, Event, Message
from runner.topology.model import RetryDelays
from runner.worker.delivery import DeliveryLifecycle
from runner.worker.retry import Failure
from runner.worker.step_recorder import StepRecorder

REPORTS = "audit.events"


class Recorded:
    """A recorder, and the memory that it writes."""

    def __init__(self, *, is_watched: bool = True) -> None:
        memory = mmap.mmap(-1, step_memory.SIZE)
        self.recorder, self.reader = StepRecorder(StepMemory(memory, 0), REPORTS), StepReader(memory, 0, memory)
        if is_watched:
            self.reader.watch()
        self.recorder.look()

    def steps(self) -> list[tuple[StepEdge, str, int]]:
        return [(one.edge, one.order_id, one.attempt) for one in self.reader.steps()[0]]

    def times(self, name: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = getattr(self.reader.totals(), f"{name}_times")
        return found


def message(**fields: Any) -> Message:
    return Message(b"{}", fields.pop("queue", "q"), correlation_id="order", **fields)


def finished(one: Message, delay: float | None = None, *, failed: bool = False) -> DeliveryLifecycle:
    nothing: Any = None
    found = DeliveryLifecycle(nothing, 0.0)
    found.message, found.handler_started, found.handler_time = one, time.monotonic() - 0.25, 0.25
    if failed:
        found.failure = Failure(ValueError(), "ValueError", RetryDelays((), "q.dlq"), delay)
    return found


def test_each_outcome_has_its_kind_and_a_retry_its_delay() -> None:
    recorded = Recorded()
    recorded.recorder.finished(finished(message()))
    recorded.recorder.finished(finished(message(attempt=2), 5.0, failed=True))
    recorded.recorder.finished(finished(message(attempt=3), failed=True))
    recorded.recorder.rejected(finished(message(attempt=4)))
    assert recorded.steps() == [
        (StepEdge(HANDLED, "q"), "order", 1),
        (StepEdge(RETRIED, "q", "5s"), "order", 2),
        (StepEdge(DEAD_LETTERED, "q"), "order", 3),
        (StepEdge(REJECTED, "q"), "order", 4),
    ]
    *buckets, total = recorded.times("handler")["q"]
    assert (sum(buckets), total) == (4, 1.0)


def test_an_attempt_without_a_handler_has_no_handler_time() -> None:
    recorded = Recorded()
    one = finished(message(), failed=True)
    one.handler_time = None
    recorded.recorder.finished(one)
    assert recorded.times("handler") == {}


@pytest.mark.parametrize(
    ("fields", "counts"),
    [({}, True), ({"attempt": 2}, False), ({"redelivered": True}, False), ({"headers": {}}, False)],
)
def test_only_the_first_wait_in_a_queue_is_timed(fields: dict[str, Any], counts: bool) -> None:
    recorded = Recorded()
    sent_at = int(time.time() * 1000) - 3_000
    recorded.recorder.finished(finished(message(**({"headers": {SENT_AT: sent_at}} | fields))))
    times = recorded.times("queue")
    assert list(times) == (["q"] if counts else [])
    assert all(2.5 <= total < 60 for *_, total in times.values())
    assert list(recorded.times("handler")) == ["q"]


@pytest.mark.parametrize("sent_at", [b"soon", -1, 2**70, True, 10**14])
def test_a_sending_time_that_no_worker_wrote_or_a_clock_that_is_ahead_stops_nothing(sent_at: object) -> None:
    recorded = Recorded()
    recorded.recorder.finished(finished(message(headers={SENT_AT: sent_at})))
    assert len(recorded.steps()) == 1
    assert all(total == 0 for *_, total in recorded.times("queue").values())


def test_without_a_supervisor_that_watches_steps_are_only_counted() -> None:
    recorded = Recorded(is_watched=False)
    recorded.recorder.delivered(message())
    recorded.recorder.published(Event("t", {}, exchange="e", routing_key="k"), 0, 1)
    recorded.recorder.finished(finished(message()))
    assert recorded.reader.totals().counts == {
        StepEdge(DELIVERED, "q"): 1, StepEdge(PUBLISHED, "e", "k", "t"): 1, StepEdge(HANDLED, "q"): 1,
    }  # fmt: skip
    recorded.reader.watch()
    recorded.recorder.delivered(message())
    recorded.recorder.finished(finished(message()))
    assert [edge.kind for edge, _, _ in recorded.steps()] == [DELIVERED, HANDLED]
    recorded.reader.stop()
    recorded.recorder.delivered(message())
    assert not recorded.recorder.is_watched


def test_an_event_whose_time_of_sending_is_unknown_gets_the_time_of_its_confirm() -> None:
    recorded = Recorded()
    before = time.time_ns()
    recorded.recorder.published(Event("t", {}, exchange="e", routing_key="k"), 0)
    (step,) = recorded.reader.steps()[0]
    assert before <= step.time <= time.time_ns()


def test_attempt_reports_are_not_steps_but_events_in_the_same_queue_are() -> None:
    recorded = Recorded()
    for one in (
        message(queue=REPORTS, type=ATTEMPT_TYPE),
        message(queue=REPORTS, type="order.created"),
        message(queue="q", type=ATTEMPT_TYPE),
    ):
        recorded.recorder.delivered(one)
        recorded.recorder.finished(finished(one))
    assert [edge.other for edge, _, _ in recorded.steps()] == [REPORTS, REPORTS, "q", "q"]


def test_a_published_event_has_its_exchange_key_type_and_the_time_of_sending() -> None:
    recorded = Recorded()
    event = Event("order.created", {}, exchange="orders", routing_key="order.created.usd", correlation_id="order")
    recorded.recorder.published(event, 5)
    recorded.recorder.published(Event("note", {}, exchange="", routing_key="q"), 6, attempt=3)
    assert recorded.reader.steps()[0] == [
        MessageStep(5, StepEdge(PUBLISHED, "orders", "order.created.usd", "order.created"), "order", 0),
        MessageStep(6, StepEdge(PUBLISHED, "", "q", "note"), "", 3),
    ]


def test_names_that_are_bytes_are_recorded_as_text() -> None:
    recorded = Recorded()
    odd: Any = b"\xff1"
    recorded.recorder.published(Event("t", {}, exchange="e", routing_key="k", correlation_id=odd), 5)
    recorded.recorder.published(Event(odd, {}, exchange="e", routing_key=odd, correlation_id="order"), 5)
    assert recorded.steps() == [
        (StepEdge(PUBLISHED, "e", "k", "t"), "\\xff1", 0),
        (StepEdge(PUBLISHED, "e", "\\xff1", "\\xff1"), "order", 0),
    ]
