"""A message with any headers and properties of its sender is handled, recorded, stored and shown."""

from __future__ import annotations

import ast
import json
import logging
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.notification.mail import compose
from runner import headers as header_names
from runner.amqp.properties import message_of, moved_properties
from runner.amqp.wire.property_codec import Properties
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.discard_command import discard_note
from runner.deadletters.json_record import record_of
from runner.deadletters.origins import Origins
from runner.deadletters.replay_rules import ReplayRules, replayed_headers
from runner.deadletters.selection import Selection
from runner.escape import json_text
from runner.headers import copy_headers, from_sender, milliseconds_of, seconds_of
from runner.history.recording import attempt_row, event_row
from runner.messages import Message, Retry
from runner.topology.model import RetryDelays
from runner.worker.delivery import DeliveryLifecycle
from runner.worker.recorder import AttemptRecorder
from runner.worker.retry import delay_before, failed_copy
from tests import hostile
from tests.running import ROOT

NOW = 1_800_000_000_000
WILD = [
    2**62,
    -(2**62),
    2**63 - 1,
    -1,
    0,
    True,
    "many",
    b"\xff",
    1.5,
    float("inf"),
    Decimal(3),
    None,
    [1],
    {"a": 1},
    2**31,
]
LADDER = RetryDelays(((1.0, "q.retry.1s"), (5.0, "q.retry.5s")), "q.dlq")
values = st.sampled_from(WILD)
headers = st.dictionaries(st.sampled_from(hostile.OURS), values, max_size=8)


def message(known: dict[str, Any], exchange: str = "", **fields: Any) -> Message:
    """Return a delivered message with these headers."""
    properties = pika.BasicProperties(headers=known, **{"message_id": "m1", "type": "order.created", **fields})
    return message_of(pika.spec.Basic.Deliver("tag", 1, False, exchange, "key"), properties, b"{}", "q")


def noted(one: Message) -> dict[str, Any]:
    """Return audit's row for the note of an attempt."""
    attempt = DeliveryLifecycle(cast(Any, None), 0.0)
    attempt.message, attempt.times = one, (NOW, NOW)
    note = AttemptRecorder("payment", "payment.1", "audit.events", logging.getLogger()).report(attempt)
    assert note is not None
    return attempt_row(Message(note.body, "audit.events", "runner.attempt", "n1"))


@given(headers, st.sampled_from(["", "orders"]))
def test_forged_headers_of_this_system_are_recorded_stored_copied_and_shown(
    known: dict[str, Any], exchange: str
) -> None:
    one = message(known, exchange)
    row = noted(one)
    assert 1 <= row["attempt"] < 2**31
    assert event_row(one)["published_at"] >= 0
    copy = failed_copy(one, LADDER, Retry("later"), "payment")
    assert 1 <= copy.headers["x-attempt"] < 2**31
    dead_letter = DeadLetter("q.dlq", {"message_id": "m1", "timestamp": 2**63}, known, b"{}")
    record = record_of(dead_letter, "q")
    assert json.loads(json_text(record))["id"] == "m1"
    event = discard_note(record, 0, "audit.events", NOW)
    attempt_row(Message(event.encoded(), "audit.events", "runner.attempt", "n1"))
    assert 1 <= replayed_headers(dead_letter, NOW)["x-replays"] < 2**31


@pytest.mark.parametrize("forged", WILD)
@pytest.mark.parametrize("name", ["x-attempt", "x-replays", "x-replayed-at", "x-sent-at", "x-published-at"])
def test_a_forged_number_is_ignored(name: str, forged: Any) -> None:
    row = noted(message({name: forged}))
    if name in ("x-attempt", "x-replays"):
        assert (row["attempt"], row["replays"]) == (1, 0)
    assert delay_before(message({name: forged}), LADDER, Retry("later")) == 1.0


@pytest.mark.parametrize("name", ["x-attempt", "x-replays", "x-made-id", "x-redelivered", "x-origin-exchange"])
def test_headers_of_copies_are_used_only_in_copies(name: str) -> None:
    value = {"x-made-id": True, "x-redelivered": True, "x-origin-exchange": "forged"}.get(name, 2)
    foreign = message({name: value, "tenant": "a"}, "orders")
    assert (foreign.attempt, foreign.replays, foreign.has_own_id, foreign.redelivered) == (1, 0, True, False)
    assert (foreign.exchange, foreign.headers) == ("orders", {"tenant": "a", "x-original": {name: value}})
    assert message({name: value}).headers == {name: value}


@pytest.mark.parametrize(
    ("timestamp", "year"),
    [
        (1_772_000_000, 2026), (1_772_000_000_000, 2026), (1_772_000_000_000_000, 2026), (253_402_300_799, 1978),
        (99_999_999_999, 5138), (0, None), (2**63, None), (2**64 - 1, None), (10**17 + 1, None), (None, None),
    ],
)  # fmt: skip
def test_a_timestamp_never_makes_a_message_fail(timestamp: int | None, year: int | None) -> None:
    for one in (message({}, timestamp=timestamp), Message(b"{}", "q", "order.created", "m1", timestamp=timestamp)):
        mail = compose(one, "shop@example.com", "alice@example.com", "Thanks", "Hello")
        assert parsedate_to_datetime(mail.date).year == (year or datetime.now().year)
    row = event_row(message({}, timestamp=timestamp))
    assert 0 <= row["published_at"] < 2**63
    dead_letter = DeadLetter("q.dlq", {"message_id": "m1", "timestamp": timestamp}, {}, b"{}")
    assert json.loads(json_text(record_of(dead_letter, None)))["properties"].get("timestamp") == timestamp


@pytest.mark.parametrize(
    "name",
    [b"\xff", b"\xff" * 255, b"\xff" * 64, b"a" * 254 + b"\xe9", b"\0" * 255, "é" * 127, "\u202e\x1b[31m", "", None],
)
def test_ids_that_are_not_text_are_accepted(name: Any) -> None:
    one = message({}, message_id=name, correlation_id=name, app_id=name, type=name, content_type=name)
    assert one.id
    assert len(one.correlation_id.encode()) <= 255
    noted(one)
    event_row(one)
    compose(one, "shop@example.com", "alice@example.com", "Thanks", "Hello")
    other = message({}, message_id=b"\xff" * 254 + b"\xfe")
    assert other.id != message({}, message_id=b"\xff" * 255).id


def test_headers_that_control_the_broker_are_visible_and_not_repeated() -> None:
    steering = {"CC": ["other"], "BCC": ["b"], "x-delay": 5, "x-opt-delivery-time": 7, "x-opt-delivery-delay": 9}
    first = copy_headers({"tenant": "a", **steering, "x-death": [{}], "x-delivery-count": 3})
    assert first == {"tenant": "a", "x-original": steering}
    assert copy_headers({**first, "CC": ["again"]})["x-original"] == steering
    assert from_sender({"x-original": 5}) == {"x-original": {"x-original": 5}}
    assert copy_headers({"x-original": 5, "CC": ["c"]}) == {"x-original": {"CC": ["c"]}}


def test_a_time_of_a_future_replay_does_not_prevent_a_replay() -> None:
    judge = ReplayRules(Origins({"q.dlq": ("q",)}, {}), Selection(), NOW)
    for forged in (NOW * 2, 2**62, 10**14):
        assert judge.judge(DeadLetter("q.dlq", {"message_id": "m"}, {"x-replayed-at": forged}, b"")) == ("q", None)
    assert judge.judge(DeadLetter("q.dlq", {"message_id": "m"}, {"x-replayed-at": NOW + 5}, b"")) == (None, None)


@pytest.mark.parametrize("one", [one for one in hostile.fitting(60, 3) if len(one.properties) < 100_000][:40])
def test_a_hostile_message_is_moved_to_another_queue(one: hostile.Hostile) -> None:
    properties = Properties(one.properties)
    method = pika.spec.Basic.Deliver("tag", 1, True, "orders", "key")
    moved = moved_properties(method, properties, is_aside=False)
    assert (moved.message_id, moved.type, moved.expiration) == (
        properties.message_id,
        properties.type,
        properties.expiration,
    )
    assert (moved.headers["x-origin-exchange"], moved.headers["x-redelivered"]) == ("orders", True)


@pytest.mark.parametrize("value", [*WILD, 10**11 + 1, 2**64, -0.5, "2026-01-01"])
def test_an_invalid_time_is_none(value: Any) -> None:
    found = seconds_of(value)
    assert found is None or 0 < found < 253_402_300_800
    found = milliseconds_of(value)
    assert found is None or 0 <= found < 253_402_300_800_000


def test_the_names_of_headers_are_in_one_module() -> None:
    names = {value for value in vars(header_names).values() if isinstance(value, str) and value.startswith("x-")}
    assert len(names) > 20
    elsewhere = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for folder in ("runner", "plugins")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(header_names.__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert elsewhere == [], "use the constants of runner/headers.py"
