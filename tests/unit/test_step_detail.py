"""The details of one step: payload, headers and error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.dashboard.json_layout import indented
from runner.dashboard.step_detail import default_step, step_detail, step_rows
from tests.recorded import QUEUE, T0, attempt, created, event, history, success

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_the_layout_is_that_of_json_dumps(value: Any, indent: int | None, is_ascii: bool) -> None:
    document = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    assert indented(document) == json.dumps(value, indent=2, ensure_ascii=is_ascii)


def test_the_layout_keeps_the_digits_of_numbers() -> None:
    assert indented('{"amount":1.10,"big":1e400}') == '{\n  "amount": 1.10,\n  "big": 1e400\n}'


def test_the_table_has_a_row_for_each_step() -> None:
    tries = [
        attempt(1, 3, "retried", sent_at=T0, pid=41), attempt(2, 1060, "dead_lettered", sent_at=T0 + 53, pid=42),
        attempt(1, 9005, replays=1, replayed_at=T0 + 9000, sent_at=T0 + 9000),
    ]  # fmt: skip
    found = step_rows(history([created(), success(9055)], tries))
    assert [(one.time, one.text, one.slot, one.pid, one.waited, one.took) for one in found] == [
        ("0.000 s", "order.created published", "order_api", None, "", ""),
        ("0.053 s", "attempt 1 failed, retry in 1 s", "payment.2", 41, "3 ms", "50 ms"),
        ("1.110 s", "attempt 2 failed, dead-lettered", "payment.2", 42, "1.01 s", "50 ms"),
        ("9.000 s", f"order.created replayed to {QUEUE}", "", None, "", ""),
        ("9.055 s", "order.created handled", "payment.2", None, "5 ms", "50 ms"),
        ("9.055 s", "payment.success published", "payment", None, "", ""),
    ]


def test_the_last_failed_attempt_is_selected_first() -> None:
    assert default_step(history([created()], [attempt(1, 3)])) == 0
    assert default_step(history([created()], [attempt(1, 3, "retried"), attempt(2, 1060)])) == 1


def test_an_attempt_has_the_payload_and_headers_of_its_message_and_its_error() -> None:
    message = event(
        "c", "order.created", 0, app_id="order_api", body='{"a":1.50}', headers={"x-sent-at": 5, "trace": {"id": "t"}}
    )
    found = step_detail(history([message], [attempt(1, 3, "dead_lettered", redelivered=True)]), 1)
    assert (found.title, found.where, found.error) == ("Attempt 1", "on payment.2", "no card")
    assert found.payload == '{\n  "a": 1.50\n}'
    assert found.about == "order.created, 10 bytes, published by order_api"
    assert found.headers == [("x-sent-at", "5"), ("trace", '{"id": "t"}')]
    assert found.dead_letter_queue == QUEUE
    assert dict(found.properties) == {
        "message id": "c", "type": "order.created", "correlation id": "o1", "exchange": "x",
        "routing key": "order.created", "content type": "application/json", "published by": "order_api",
        "queue": QUEUE, "attempt": "1", "redelivered": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("plain text", "plain text"),
        ("{broken", "{broken"),
        ("\u202eabc\x1b[31m", "\\u202eabc\\x1b[31m"),
        ('{"a":"\u202e"}', '{\n  "a": "\\u202e"\n}'),
        ("[" * 100_000, "[" * 65536),
    ],
)
def test_any_payload_is_shown_as_harmless_text(body: str, shown: str) -> None:
    found = step_detail(history([event("c", "order.created", 0, body=body)], []), 0)
    assert found.payload == shown
    assert found.more == max(0, len(body) - 65536)


def test_a_step_whose_event_is_not_recorded_has_no_payload() -> None:
    found = step_detail(history([], [attempt(1, 3)]), 0)
    assert (found.payload, found.headers) == (None, [])
    assert found.properties[0] == ("message id", "c")


def test_a_replay_and_a_discarded_message_have_no_attempt() -> None:
    note = attempt(3, 9500, "discarded", replays=1, instance=f"{QUEUE}.dlq", ended_at=T0 + 9500)
    tries = [attempt(1, 3, "dead_lettered"), attempt(2, 9005, "dead_lettered", replays=1, replayed_at=T0 + 9000), note]
    found_history = history([created()], tries)
    assert [one.kind for one in found_history.entries] == [
        "published",
        "dead_lettered",
        "replayed",
        "dead_lettered",
        "discarded",
    ]
    assert (step_detail(found_history, 2).title, step_detail(found_history, 2).error) == ("order.created replayed", "")
    assert step_detail(found_history, 4).title == "order.created discarded"
