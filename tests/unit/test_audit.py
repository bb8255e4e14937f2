"""The rows that audit writes for a message."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from runner.history.recording import attempt_row, event_row
from runner.messages import ATTEMPT_TYPE, Message, Reject, Retry
from runner.topology.model import RetryDelays
from runner.worker.delivery import DeliveryLifecycle
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import Failure


def message(**fields: Any) -> Message:
    known: dict[str, Any] = {"body": b"{}", "queue": "audit.events", "id": "m1", "type": "order.created"}
    return Message(**{**known, **fields})


def note(**fields: Any) -> Message:
    tried = message(correlation_id="o1", headers={"x-sent-at": 5})
    one = DeliveryLifecycle(cast(Any, None), 0.0)
    one.message, one.times, one.failure = tried, (10, 20), Failure(Retry("why"), "why", RetryDelays((), "q.dlq"), 1.0)
    report = AttemptRecorder("payment", "payment.1", "audit.events", logging.getLogger()).report(one)
    assert report is not None
    return message(id="n1", type=ATTEMPT_TYPE, body=json.dumps({**json.loads(report.body), **fields}).encode())


def test_an_event_is_stored_with_all_its_fields() -> None:
    row = event_row(
        message(
            correlation_id="o1", causation_id="c1", exchange="orders.topic", routing_key="order.created.eur",
            app_id="order_api", body='{"a":"€"}'.encode(), headers={"x-sent-at": 1234},
        )
    )  # fmt: skip
    assert row == {
        "id": "m1", "type": "order.created", "order_id": "o1", "published_at": 1234, "exchange": "orders.topic",
        "routing_key": "order.created.eur", "app_id": "order_api", "causation_id": "c1",
        "content_type": "application/json", "headers": {"x-sent-at": 1234}, "body": '{"a":"€"}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-published-at": 3, "x-sent-at": 9}, 3),
        ({"x-sent-at": 9}, 9),
        ({"x-sent-at": "9"}, 7000),
        ({"x-sent-at": -1}, 7000),
        ({"x-sent-at": 2**63}, 7000),
        ({}, 7000),
    ],
)
def test_its_time_is_that_of_its_first_publish_or_else_its_timestamp(headers: dict[str, Any], expected: int) -> None:
    assert event_row(message(headers=headers, timestamp=7))["published_at"] == expected


def test_an_event_without_a_time_gets_the_current_time() -> None:
    assert abs(event_row(message())["published_at"] / 1000 - datetime.now(UTC).timestamp()) < 60


def test_header_values_that_json_lacks_become_text_and_the_others_keep_their_types() -> None:
    headers: dict[str, Any] = {
        "number": 1, "yes": True, "none": None, "list": [1, b"raw", {"deep": Decimal("1.10")}],
        "time": datetime(2026, 1, 2, tzinfo=UTC), "nan": float("nan"), "bytes": b"\xff\0", "nul": "a\0b",
    }  # fmt: skip
    kept = event_row(message(headers=headers))["headers"]
    assert json.loads(json.dumps(kept, allow_nan=False)) == {
        "number": 1, "yes": True, "none": None, "list": [1, "raw", {"deep": "1.10"}],
        "time": "2026-01-02T00:00:00+00:00", "nan": "nan", "bytes": "\\xff\\x00", "nul": "a\\x00b",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a\0b"])
def test_a_body_that_no_text_column_accepts_is_stored_readably(body: bytes) -> None:
    assert event_row(message(body=body))["body"] in ("\\xff\\xfe", "a\\x00b")


def test_a_report_becomes_the_row_of_an_attempt() -> None:
    assert attempt_row(note()) == {
        "id": "n1", "order_id": "o1", "message_id": "m1", "message_type": "order.created", "queue": "audit.events",
        "service": "payment", "instance": "payment.1", "attempt": 1, "replays": 0, "outcome": "retried",
        "error": "why", "delay": 1000, "sent_at": 5, "began_at": 10, "ended_at": 20, "redelivered": False,
        "replayed_at": None, "pid": os.getpid(),
    }  # fmt: skip


def test_a_report_of_a_former_version_gets_the_present_outcome() -> None:
    assert attempt_row(note(outcome="dead_lettered"))["outcome"] == "dead_lettered"
    assert attempt_row(note(outcome="dead_lettered"))["outcome"] == "dead_lettered"


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"outcome": "lost"}, "outcome: "),
        ({"outcome": 5}, "outcome: "),
        ({"outcome": []}, "outcome: "),
        ({"began_at": "10"}, "began_at: "),
        ({"began_at": 2**63}, "began_at: "),
        ({"attempt": -1}, "attempt: "),
        ({"queue": None}, "queue: "),
    ],
)
def test_a_malformed_report_is_rejected_with_the_wrong_field(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(Reject, match=f"message n1: not an attempt report: {word}"):
        attempt_row(note(**wrong))


@pytest.mark.parametrize("body", [b"[]", b"no json", b"{}"])
def test_a_message_that_is_no_report_is_rejected(body: bytes) -> None:
    with pytest.raises(Reject, match="message n1"):
        attempt_row(message(id="n1", type=ATTEMPT_TYPE, body=body))
