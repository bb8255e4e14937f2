"""The blame for a consumer timeout: the message whose handler took the time, not a message that waited behind it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runner.worker.handler_timeout import SHORTEST_TIMEOUT, HandlerTimes

NOW = 1000.0


def times(*running: tuple[str, str, float, float]) -> HandlerTimes:
    """Return handlers with these messages: queue, id, seconds since the delivery and since the handler's start."""
    one = HandlerTimes(lambda: NOW)
    one._running = {
        number: (message(queue, name), NOW - delivered, NOW - began)
        for number, (queue, name, delivered, began) in enumerate(running)
    }
    return one


def message(queue: str, name: str) -> Any:
    return SimpleNamespace(queue=queue, id=name)


@pytest.mark.parametrize(
    ("running", "queue", "blamed"),
    [
        ([], "", None),
        ([("q", "a", 30.0, 30.0)], "", "a"),
        ([("q", "a", 30.0, 30.0)], "q", "a"),
        ([("q", "a", 30.0, 30.0)], "other", None),
        ([("q", "a", 30.0, 29.0)], "q", "a"),
        # It waited for most of the time, and may be handled in time at its next delivery.
        ([("q", "a", 30.0, 10.0)], "q", None),
        # For example after a queue was deleted and declared again while a handler ran on one of its messages.
        ([("q", "a", 0.2, 0.2)], "q", None),
        ([("q", "a", SHORTEST_TIMEOUT, SHORTEST_TIMEOUT)], "q", "a"),
        # Of several handlers, the longest.
        ([("q", "a", 30.0, 16.0), ("q", "b", 30.0, 29.0), ("q", "c", 30.0, 1.0)], "", "b"),
        ([("p", "a", 30.0, 30.0), ("q", "b", 20.0, 20.0)], "q", "b"),
    ],
)
def test_only_a_handler_that_used_most_of_the_time_is_blamed(
    running: list[tuple[str, str, float, float]], queue: str, blamed: str | None
) -> None:
    words = times(*running).unacknowledged(queue, NOW)
    assert (words is None) == (blamed is None)
    if words is not None:
        assert words.startswith(f"a handler has been processing message {blamed} from ")
        assert words.endswith(" s, longer than the broker's consumer_timeout")


@pytest.mark.parametrize(
    ("timeout", "running", "blamed"),
    [
        # The broker closed the channel for a message without a handler.
        (20.0, [("q", "a", 1.2, 1.2)], None),
        (20.0, [("q", "a", 25.0, 10.0), ("q", "b", 1.2, 1.2)], None),
        (1800.0, [("q", "a", 900.0, 900.0)], None),
        (20.0, [("q", "a", 17.9, 17.9)], None),
        (20.0, [("p", "a", 20.1, 20.1), ("q", "b", 19.0, 1.0)], "a"),
        (2.0, [("q", "a", 2.0, 2.0)], "a"),
        # The broker's time includes the way to the worker.
        (20.0, [("q", "a", 19.5, 19.5)], "a"),
        (1.0, [("q", "a", 0.95, 0.95)], None),
    ],
)
def test_only_a_message_as_old_as_the_broker_s_timeout_is_blamed(
    timeout: float, running: list[tuple[str, str, float, float]], blamed: str | None
) -> None:
    words = times(*running).unacknowledged("", NOW, timeout)
    assert (words is None) == (blamed is None)
    assert words is None or f" message {blamed} from " in words


@pytest.mark.parametrize(
    ("running", "blamed"),
    [
        # The message that was delivered first waited for its handler, so that it may be handled in time.
        ([("q", "a", 30.0, 10.0), ("q", "b", 5.0, 5.0)], None),
        ([("q", "a", 30.0, 10.0), ("q", "b", 29.0, 28.0)], "b"),
        ([("q", "a", 30.0, 16.0), ("q", "b", 26.0, 26.0)], "a"),
        ([("p", "a", 30.0, 30.0), ("q", "b", 5.0, 5.0)], "b"),
        ([("q", "a", 5.0, 5.0), ("q", "b", 1.2, 1.2), ("q", "c", 4.0, 4.0)], "a"),
    ],
)
def test_without_a_timeout_only_the_message_with_the_oldest_delivery_is_blamed(
    running: list[tuple[str, str, float, float]], blamed: str | None
) -> None:
    words = times(*running).unacknowledged("q", NOW)
    assert (words is None) == (blamed is None)
    assert words is None or f" message {blamed} from " in words
