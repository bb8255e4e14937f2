"""The copies of a message that could not be handled."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import PluginError
from runner.messages import BadBody, BadOutcome, Message, Reject, Retry
from runner.topology.model import RetryDelays
from runner.worker.retry import MAX_ERROR, MAX_TRACEBACK, delay_before, failed_copy, shortened

LADDER = RetryDelays(((1.0, "q.retry.1s"), (5.0, "q.retry.5s")), "q.dlq")
NO_RETRY = RetryDelays((), "q.dlq")


def message(**fields: Any) -> Message:
    known = {
        "body": b"\x00raw", "queue": "q", "type": "order.created", "id": "m1", "correlation_id": "o1",
        "causation_id": "c1", "exchange": "orders.topic", "routing_key": "order.created.eur", "timestamp": 5,
        "app_id": "order_api", "content_type": "text/x",
    }  # fmt: skip
    return Message(**{**known, **fields})


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1.0), (2, 5.0), (3, None), (99, None)])
@pytest.mark.parametrize("error", [Retry("later"), ValueError("bug")])
def test_each_failure_uses_the_next_retry_delay_and_then_the_message_is_dead_lettered(
    attempt: int, delay: float | None, error: Exception
) -> None:
    assert delay_before(message(attempt=attempt), LADDER, error) == delay


@pytest.mark.parametrize(
    "error",
    [Reject("never"), BadBody("no JSON"), BadOutcome("a dict"), PluginError("event 'payment.sucess' is missing")],
)
def test_a_permanent_failure_is_dead_lettered_at_once(error: Exception) -> None:
    assert delay_before(message(), LADDER, error) is None
    assert failed_copy(message(), LADDER, error, "payment").routing_key == "q.dlq"


def test_a_copy_has_the_time_of_its_event_and_not_of_the_copy_before_it() -> None:
    first = failed_copy(message(headers={"x-sent-at": 1000}), LADDER, Retry("later"), "payment")
    assert first.headers["x-published-at"] == 1000
    second = failed_copy(message(headers={**first.headers, "x-sent-at": 2000}), LADDER, Retry("later"), "payment")
    assert second.headers["x-published-at"] == 1000


def test_without_retry_delays_the_first_failure_is_dead_lettered() -> None:
    assert delay_before(message(), NO_RETRY, Retry("later")) is None


def test_a_retry_is_the_same_message_published_to_the_retry_queue() -> None:
    event = failed_copy(message(attempt=2), LADDER, Retry("gateway timed out"), "payment")
    assert (event.exchange, event.routing_key) == ("", "q.retry.5s")
    assert (event.id, event.type, event.correlation_id, event.timestamp) == ("m1", "order.created", "o1", 5)
    assert (event.encoded(), event.content_type, event.app_id) == (b"\x00raw", "text/x", "order_api")
    assert event.headers == {
        "x-attempt": 3,
        "x-causation-id": "c1",
        "x-first-error": "gateway timed out",
        "x-last-error": "gateway timed out",
        "x-origin-exchange": "orders.topic",
        "x-origin-queue": "q",
        "x-origin-routing-key": "order.created.eur",
    }


def test_the_first_error_is_kept_beside_the_last() -> None:
    first = failed_copy(message(), LADDER, Retry("first"), "payment")
    second = failed_copy(message(headers=first.headers, attempt=2), LADDER, Retry("second"), "payment")
    assert (second.headers["x-first-error"], second.headers["x-last-error"]) == ("first", "second")


def test_a_dead_letter_has_the_reason_the_place_and_the_time() -> None:
    event = failed_copy(message(attempt=3), LADDER, raised(ValueError("no such currency")), "payment")
    headers = event.headers
    assert (event.exchange, event.routing_key, event.id) == ("", "q.dlq", "m1")
    assert headers["x-attempt"] == 3
    assert headers["x-exception"] == "ValueError"
    assert headers["x-last-error"] == "ValueError: no such currency"
    assert headers["x-traceback"].startswith("Traceback")
    assert headers["x-traceback"].rstrip().endswith("ValueError: no such currency")
    assert headers["x-service"] == "payment"
    assert headers["x-pid"] == os.getpid()
    assert {"x-host", "x-failed-at"} <= set(headers)


def test_the_end_of_a_long_traceback_is_kept() -> None:
    event = failed_copy(message(), NO_RETRY, raised(ValueError("x" * 5000 + "the end")), "payment")
    assert len(event.headers["x-traceback"]) == MAX_TRACEBACK
    assert event.headers["x-traceback"].rstrip().endswith("the end")


def test_headers_of_the_user_are_kept_and_those_of_the_broker_are_removed() -> None:
    headers = {
        "tenant": "a", "x-mine": 1, "x-death": [{"count": 3}], "x-first-death-queue": "q", "x-last-death-reason": "r",
        "x-delivery-count": 2, "x-acquired-count": 2,
    }  # fmt: skip
    event = failed_copy(message(headers=headers), LADDER, Retry("later"), "payment")
    assert {name for name in event.headers if name in headers} == {"tenant", "x-mine"}
    assert headers["x-death"] == [{"count": 3}]


@settings(deadline=None)
@given(st.text(), st.sampled_from([ValueError, Retry, Reject]))
def test_a_shortened_error_is_short_and_never_empty(words: str, kind: type[Exception]) -> None:
    assert 0 < len(shortened(kind(words))) <= MAX_ERROR
    assert len(shortened(kind(words * 1000))) <= MAX_ERROR


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such currency"), "ValueError: no such currency"),
        (ValueError(), "ValueError: ValueError"),
        (Retry("gateway timed out"), "gateway timed out"),
        (Reject("no such currency"), "no such currency"),
        (Retry(), "Retry"),
        (BadBody("not JSON"), "not JSON"),
    ],
)
def test_retry_and_reject_are_shown_without_their_class_names(error: Exception, text: str) -> None:
    assert shortened(error) == text
