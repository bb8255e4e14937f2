"""A pipeline whose actions fail. Its worker exits, so that no delivery stays unacked in a healthy worker."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from runner.amqp.properties import encode
from runner.errors import BrokerUnreachable
from runner.messages import Event
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.pipeline import Pipeline
from runner.worker.runtime import Runtime

ENCODED = encode(Event("done", {}, exchange="e", routing_key="k", id="1"))


class Broken(Exception):
    """An error of an action."""


def broken(*_: object, **__: object) -> Any:
    raise Broken


def accept(*_: object) -> None:
    pass


class Worker:
    """A pipeline without threads, with one delivery and the planned answers of its publisher and its database."""

    def __init__(self, handle: Callable[[DeliveryLifecycle], DeliveryEvent], **parts: Any) -> None:
        self.answer: Any = None
        self.crashes: list[BaseException] = []
        retries: Any = parts.get("retries")
        record: Any = SimpleNamespace(in_hand=accept, handled=accept)
        steps: Any = SimpleNamespace(
            delivered=accept, published=accept, finished=accept, rejected=accept, unacked=accept, is_watched=False
        )
        runtime = Runtime(parts.get("call_later", accept), accept, logging.getLogger())
        runtime.crash = self.crash  # type: ignore[method-assign]
        self.pipeline = Pipeline(
            handle, self.send, retries, parts.get("recorder"), record, steps, runtime, accept,
            logging.getLogger(),
        )  # fmt: skip
        delivery: Any = SimpleNamespace(
            is_alive=True, problem=None, queue="q", message=lambda: SimpleNamespace(queue="q", attempt=1),
            ack=parts.get("ack", accept), reject=accept,
        )  # fmt: skip
        self.pipeline.submit(delivery)
        self.pipeline._queue.put(None)

    def crash(self) -> None:
        """Record the current error."""
        error = sys.exception()
        assert error is not None
        self.crashes.append(error)

    def send(self, encoded: Any, done: Any, *, may_wait: bool) -> None:
        self.answer = lambda error: done(encoded, error)

    def run(self) -> None:
        self.pipeline._run(0)


def publishes(one: DeliveryLifecycle) -> DeliveryEvent:
    one.outgoing = [ENCODED]
    return DeliveryEvent.HANDLED


def test_an_error_of_an_acknowledgement_ends_the_worker_even_on_the_thread_of_the_confirm() -> None:
    one = Worker(publishes, ack=broken)
    one.run()
    assert one.crashes == []
    one.answer(None)
    assert [type(error) for error in one.crashes] == [Broken]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"recorder": SimpleNamespace(report=broken)}, None),
        ({"call_later": broken}, BrokerUnreachable("away")),
        ({"ack": broken}, None),
    ],
)
def test_an_error_after_a_commit_ends_the_worker_even_on_the_thread_of_the_database(
    parts: dict[str, Any], error: BrokerUnreachable | None
) -> None:
    commit: Future[None] = Future()

    def writes(one: DeliveryLifecycle) -> DeliveryEvent:
        one.outgoing, one.until = [ENCODED], commit.add_done_callback
        one.committed = lambda _: DeliveryEvent.COMMITTED
        return DeliveryEvent.WRITTEN

    one = Worker(writes, **parts)
    one.run()
    commit.set_result(None)
    one.answer(error)
    assert [type(error) for error in one.crashes] == [Broken]


@pytest.mark.parametrize("event", [DeliveryEvent.FAILED, DeliveryEvent.TAKEN, DeliveryEvent.CONFIRMED])
def test_an_error_of_a_decision_and_an_illegal_event_end_the_worker(event: DeliveryEvent) -> None:
    def fails(one: DeliveryLifecycle) -> DeliveryEvent:
        one.problem = ValueError()
        return event

    one = Worker(fails, retries=SimpleNamespace(decide=broken))
    one.run()
    assert len(one.crashes) == 1
