"""Any content header of a message is read: as properties, or as bytes with the reason."""

from __future__ import annotations

import struct
import time
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.amqp.properties import copied_properties, encode_copy, message_of
from runner.amqp.wire.field_table import MAX_DEPTH
from runner.amqp.wire.property_codec import FLAGS, Properties, write_properties
from runner.headers import Undecoded, from_sender
from runner.messages import Retry
from runner.topology.model import RetryDelays
from runner.worker.retry import failed_copy
from tests import hostile
from tests.hostile import nested, properties, short, sized, table

FAR = st.binary(max_size=300)


def pikas(raw: bytes) -> pika.BasicProperties | None:
    """Return the properties as pika reads them. Return None if pika fails, or does not stop at the end."""
    found = pika.BasicProperties()
    try:
        found.decode(raw + b"\xce", 0)
        rewritten = b"".join(found.encode())
    except Exception:  # pika raises many types
        return None
    return found if len(rewritten) == len(raw) else None


def as_pikas(value: Any) -> Any:
    """Return a value as pika reads it. Pika makes a double a whole number."""
    if isinstance(value, dict):
        return {name: as_pikas(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(as_pikas, value))
    if isinstance(value, Decimal):
        return value.normalize()
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def hostile_bytes() -> st.SearchStrategy[bytes]:
    """Return a strategy of content headers that a sender may write, with random changes."""
    known = [one.properties for one in hostile.fitting(100, 7)] + list(hostile.broken())
    chosen = st.sampled_from([one for one in known if len(one) < 5000])
    changed = st.builds(
        lambda raw, at, new: raw[: at % (len(raw) + 1)] + new + raw[at % (len(raw) + 1) + len(new) :],
        chosen, st.integers(0, 5000), st.binary(min_size=1, max_size=8),
    )  # fmt: skip
    cut = st.builds(lambda raw, at: raw[: at % (len(raw) + 1)], chosen, st.integers(0, 5000))
    flags = st.builds(lambda number, rest: struct.pack(">H", number) + rest, st.integers(0, 0xFFFF), FAR)
    return st.one_of(FAR, chosen, changed, cut, flags)


@settings(max_examples=1000)
@given(hostile_bytes())
def test_any_bytes_are_properties_or_a_reported_problem(raw: bytes) -> None:
    found = Properties(raw)
    known = {name: getattr(found, name) for name in FLAGS}
    if found.problem:
        assert "cannot be decoded" in found.problem
        assert known["headers"] is None or isinstance(known["headers"], dict)
    else:
        theirs = pikas(raw)
        if theirs is not None and not any(isinstance(one, Undecoded) for one in (known["headers"] or {}).values()):
            assert repr(as_pikas(known)) == repr(as_pikas(theirs.__dict__))


@settings(max_examples=500)
@given(hostile_bytes(), FAR)
def test_any_bytes_become_a_message_and_a_copy_or_the_reason_against_it(raw: bytes, body: bytes) -> None:
    found = Properties(raw)
    for exchange in ("", "orders"):
        message = message_of(pika.spec.Basic.Deliver("tag", 1, False, exchange, "key"), found, body, "q")
        assert message.id
        assert 1 <= message.attempt < 2**31
        assert 0 <= message.replays < 2**31
        assert all(len(one.encode()) <= 255 for one in (message.id, message.correlation_id, message.causation_id))
        assert message.timestamp is None or 0 < message.timestamp < 253_402_300_800
    known = {name: getattr(found, name) for name in FLAGS}
    if found.remainder:
        with pytest.raises(ValueError, match="the message cannot be copied"):
            copied_properties(known, dict(found.headers or {}), found.remainder)
        return
    copy = copied_properties(known, dict(found.headers or {}))
    again = Properties(copy.encoded)
    kept = {name: getattr(found, name) for name in FLAGS if name not in ("headers", "delivery_mode")}
    kept |= {"expiration": None, "user_id": None}
    assert {name: getattr(again, name) for name in kept} == kept
    headers = {name: value for name, value in (again.headers or {}).items() if name != "x-original"}
    before = {name: value for name, value in (found.headers or {}).items() if name != "x-original"}
    assert headers == before or "nan" in repr(before)  # NaN is equal to nothing


@pytest.mark.parametrize("kind", [b"A", b"F"], ids=["lists", "tables"])
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 100, 500, 5000, 20_000])
def test_a_value_nested_too_deep_stays_bytes_and_all_others_are_read(kind: bytes, depth: int) -> None:
    value = nested(depth, kind)
    raw = properties(
        headers=table((b"before", b"t\1"), (b"deep", value), (b"after", b"I\0\0\0\7")), message_id=short(b"m1"),
        app_id=short(b"shop"),
    )  # fmt: skip
    began = time.process_time()
    found = Properties(raw)
    assert time.process_time() - began < 0.5
    assert (found.message_id, found.app_id, found.headers["before"], found.headers["after"]) == ("m1", "shop", True, 7)
    assert bool(found.problem) == (depth > MAX_DEPTH)
    if found.problem:
        assert found.problem == "header 'deep': cannot be decoded, nested too deeply; allowed: 64 levels"
        assert found.headers["deep"] == Undecoded(value)
        # A copy contains it unchanged.
        copy = write_properties({"headers": found.headers, "message_id": "m1", "app_id": "shop"})
        assert copy == raw


@pytest.mark.parametrize("kind", [b"A", b"F"], ids=["lists", "tables"])
@pytest.mark.parametrize("name", ["x-attempt", "x-original", "x-origin-exchange", "x-made-id", "CC"])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
def test_the_copies_of_a_message_that_could_be_decoded_can_be_decoded(kind: bytes, name: str, depth: int) -> None:
    raw = properties(headers=table((name.encode(), nested(depth, kind)), (b"tenant", b"t\1")), message_id=short(b"m1"))
    ladder = RetryDelays(((1.0, "q.retry.1s"), (2.0, "q.retry.2s")), "q.dlq")
    for attempt, exchange in enumerate(("orders", "", ""), 1):
        found = Properties(raw)
        assert found.problem == ""
        message = message_of(pika.spec.Basic.Deliver("tag", 1, False, exchange, "key"), found, b"{}", "q")
        assert (message.attempt, message.headers["tenant"]) == (attempt, True)
        raw = encode_copy(failed_copy(message, ladder, Retry("later"), "payment"), found).properties.encoded
    found = Properties(raw)
    assert found.problem == ""
    assert nested(depth, kind) in raw, "the value is passed on unchanged"
    assert found.headers["x-last-error"] == "later"
    # Through another exchange it is a sender's, and is moved aside again.
    again = from_sender(found.headers)
    copy = copied_properties({"message_id": "m1", "priority": 3, "user_id": "guest"}, dict(again))
    assert copy.problem == ""
    assert nested(depth, kind) in copy.encoded


def test_a_header_too_deep_for_us_still_fails_beside_an_original_that_is_too_deep() -> None:
    deep = nested(MAX_DEPTH + 1, b"A")
    found = Properties(properties(headers=table((b"x-original", deep), (b"other", deep)), message_id=short(b"m1")))
    assert found.problem.startswith("header 'other': ")
    broken = Properties(properties(headers=table((b"x-original", b"?")), message_id=short(b"m1")))
    assert broken.problem.startswith("header 'x-original': ")


@pytest.mark.parametrize("value", hostile.BROKEN)
def test_an_invalid_value_is_reported_and_the_id_is_still_read(value: bytes) -> None:
    found = Properties(properties(headers=table((b"good", b"t\1"), (b"bad", value)), message_id=short(b"m1")))
    assert found.message_id == "m1"
    assert found.headers["good"] is True
    if found.problem:
        assert found.problem.startswith("header 'bad': cannot be decoded, ")


@pytest.mark.parametrize("raw", list(hostile.broken())[-7:])
def test_properties_that_end_too_soon_are_reported(raw: bytes) -> None:
    found = Properties(raw)
    assert bool(found.problem)
    assert found.problem.startswith("properties: cannot be decoded, ")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"d" + struct.pack(">d", 1.5), 1.5), (b"f" + struct.pack(">f", 0.25), 0.25), (b"b\xff", -1), (b"B\xff", 255),
        (b"u\xff\xff", 65535), (b"s\xff\xff", -1), (b"i\xff\xff\xff\xff", 2**32 - 1), (sized(b"S", b"\xff"), b"\xff"),
        (sized(b"A", b"Vt\1" + sized(b"F", short(b"k") + b"V")), [None, True, {"k": None}]),
        (b"D\x02\x00\x00\x00\x0f", pytest.approx(0.15)),
    ],
)  # fmt: skip
def test_each_type_is_read(value: bytes, meant: Any) -> None:
    found = Properties(properties(headers=table((b"k", value)))).headers["k"]
    assert (float(found) if value[:1] == b"D" else found) == meant


def test_a_header_of_a_copy_contains_the_properties_that_it_does_not_repeat() -> None:
    known = {
        "priority": 9, "content_encoding": "gzip", "expiration": "5000", "user_id": "guest", "delivery_mode": 1,
        "reply_to": "r", "cluster_id": "c", "correlation_id": b"\xff",
    }  # fmt: skip
    copy: Properties = copied_properties(known, {"tenant": "a"})
    assert (copy.priority, copy.content_encoding, copy.reply_to, copy.cluster_id) == (9, "gzip", "r", "c")
    assert (copy.expiration, copy.user_id, copy.delivery_mode, copy.correlation_id) == (None, None, 2, b"\xff")
    assert copy.headers == {"tenant": "a", "x-original": {"expiration": "5000", "user_id": "guest"}}
