"""Bodies as strict JSON, and the ids that events inherit."""

from __future__ import annotations

import gc
import json
import random
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.messages import (
    EVENT_NAMESPACE,
    BadBody,
    BadOutcome,
    Event,
    Message,
    Reject,
    caused_by,
    events_of,
    name_based_id,
    random_id,
)
from runner.strict_json import MAX_DEPTH, decode_json, encode_json

_SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text()
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u00e9"), inner), max_leaves=20
)


def floats_in(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, float) or any(map(floats_in, inner))


@settings(deadline=None)
@given(_VALUES)
def test_a_written_body_reads_the_same(value: Any) -> None:
    assert decode_json(encode_json(value)) == value


@settings(deadline=None)
@given(st.recursive(_SCALARS | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_no_number_is_ever_read_as_a_binary_float(value: Any) -> None:
    assert not floats_in(decode_json(json.dumps(value).encode()))


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.text('[]{}":,-+.eE0123456789tfn \\u\t').map(str.encode))
def test_arbitrary_bytes_are_a_value_or_a_value_error(raw: bytes) -> None:
    try:
        value = decode_json(raw)
    except ValueError:
        return
    assert not floats_in(value)


@pytest.mark.parametrize("text", ["149.99", "0.1", "1e2", "-0.0", "1E-400", "1e400", "100000000000000000.01"])
def test_a_fraction_keeps_every_digit(text: str) -> None:
    value = decode_json(text.encode())
    assert type(value) is Decimal
    assert value == Decimal(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a": [NaN]}',
        b"",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b"\xff",
        b"01",
        b"1 2",
        b"\xef\xbb\xbf1",
        b'"\t"',
        b"1e99999999999999999999",
        b"1" * 5000,
        "1".encode("utf-16"),
    ],
)
def test_invalid_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(raw)


@pytest.mark.parametrize("raw", [b'{"a": 1, "a": 1}', b'[{"b": {"x": 0, "a": 1, "a": 2}}]', b'{"a": 1, "\\u0061": 2}'])
def test_a_repeated_key_is_refused_by_its_name(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^duplicate key 'a'$"):
        decode_json(raw)


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + closing * levels).encode()


def test_32_levels_are_read_and_33_are_not() -> None:
    assert MAX_DEPTH == 32
    decode_json(nested(32))
    decode_json(b'{"a":' * 31 + b"[]" + b"}" * 31)
    for raw in (nested(33), b'{"a":' * 32 + b"[]" + b"}" * 32, b"[1, [], " + nested(32) + b"]"):
        with pytest.raises(ValueError, match=r"^nested too deeply; allowed: 32 levels$"):
            decode_json(raw)


@pytest.mark.parametrize(
    "raw", [nested(100_000), b"[" * 100_000, b'{"a":' * 100_000, b'[{"a":' * 50_000], ids=["closed", "open", "a", "b"]
)
def test_a_hundred_thousand_brackets_are_an_error_and_no_crash(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^nested too deeply; allowed: 32 levels$"):
        decode_json(raw)


def test_a_wide_body_is_not_too_deep() -> None:
    assert len(decode_json(b"[" + b"[]," * 50_000 + b"[]]")) == 50_001


def test_money_ids_and_times_are_written_as_text() -> None:
    body = {
        "amount": Decimal("149.90"),
        "id": uuid.UUID(int=1),
        "at": datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
        "name": "Zo\u00eb",
    }
    assert encode_json(body).decode() == (
        '{"amount":"149.90","id":"00000000-0000-0000-0000-000000000001","at":"2024-05-01T12:30:00+00:00",'
        '"name":"Zo\u00eb"}'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN")])
def test_a_value_that_is_not_a_number_cannot_be_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_json({"amount": value})


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {(1, 2): 3}])
def test_values_that_json_lacks_cannot_be_written(value: object) -> None:
    with pytest.raises(TypeError):
        encode_json([value])


def test_a_body_that_contains_itself_or_is_too_deep_cannot_be_written() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular reference"):
        encode_json(circle)
    for levels, wrap in ((33, list), (33, tuple), (40, lambda inner: {"a": inner[0]}), (500, list), (50_000, list)):
        deep: Any = []
        for _ in range(levels - 1):
            deep = wrap([deep])
        with pytest.raises(ValueError, match="nested too deeply; allowed: 32 levels"):
            encode_json(deep)


def test_a_body_that_can_be_written_can_be_read() -> None:
    for wrap in (list, tuple, lambda inner: {"a": inner[0]}):
        body: Any = ["[" * 100]
        for _ in range(31):
            body = wrap([body])
        decode_json(encode_json(body))


def test_bytes_are_sent_unchanged() -> None:
    assert Event("a", b"\xff\x00").encoded() == b"\xff\x00"
    assert Event("a", {"b": 1}).encoded() == b'{"b":1}'


def message(**fields: Any) -> Message:
    return Message(**{"body": b"{}", "queue": "q", "id": "m1", **fields})


def test_a_message_with_a_bad_body_is_rejected_by_its_id() -> None:
    with pytest.raises(BadBody, match=r"^message m1: the body cannot be decoded as JSON: NaN is not JSON$"):
        message(body=b"NaN").json()
    with pytest.raises(Reject, match=r"^message without id: "):
        message(body=b"", id="").json()


def test_a_body_is_read() -> None:
    assert message(body=b'{"amount": 1.50}').json() == {"amount": Decimal("1.50")}


def test_an_event_s_id_depends_only_on_message_service_and_index() -> None:
    one = message().event_id(0, "payment")
    assert one == message(attempt=3, redelivered=True, queue="other", body=b"x").event_id(0, "payment")
    others = {message().event_id(1, "payment"), message().event_id(0, "audit"), message(id="m2").event_id(0, "payment")}
    assert len(others | {one}) == 4
    assert uuid.UUID(one).version == 5


def test_an_event_inherits_the_ids_of_its_message() -> None:
    event = caused_by(message(correlation_id="order-1"), Event("a", {}), 0, "payment")
    assert (event.correlation_id, event.causation_id, event.app_id) == ("order-1", "m1", "payment")
    assert event.id == message().event_id(0, "payment")


def test_a_message_without_correlation_id_starts_a_new_conversation() -> None:
    assert caused_by(message(), Event("a", {}), 0, "payment").correlation_id == "m1"


def test_an_event_s_own_values_are_kept() -> None:
    own = Event("a", {}, id="i", correlation_id="c", causation_id="x", app_id="s")
    assert caused_by(message(correlation_id="order-1"), own, 0, "payment") == own


def test_a_handler_returns_none_one_event_or_several() -> None:
    one, two = Event("a", 1), Event("b", 2)
    assert list(events_of(None)) == []
    assert list(events_of(one)) == [one]
    assert list(events_of([one, two])) == list(events_of((one, two))) == [one, two]


@pytest.mark.parametrize("outcome", ["order.paid", {"type": "a"}, True, 0, [None], ["x"]])
def test_a_handler_with_another_return_value_gets_an_error_with_the_allowed_ones(outcome: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^handle: returned .*; allowed: an Event, a list of Events, or None$"):
        list(events_of(outcome))


def test_a_handler_that_returns_a_coroutine_gets_an_error_without_a_warning_of_python() -> None:
    async def charge() -> Event:
        return Event("a", 1)

    with pytest.raises(BadOutcome, match="returned <coroutine"):
        list(events_of(charge()))  # type: ignore[arg-type]
    gc.collect()  # where Python would warn that the coroutine was never awaited


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_an_id_from_a_name_is_the_uuid_of_that_name(name: str) -> None:
    assert name_based_id(name) == str(uuid.uuid5(EVENT_NAMESPACE, name))


def test_a_random_id_is_a_unique_uuid_of_version_4() -> None:
    ids = [random_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    for one in ids:
        found = uuid.UUID(one)
        assert (str(found), found.version, found.variant) == (one, 4, uuid.RFC_4122)


@settings(deadline=None)
@given(st.text('[]{}"\\ a1,:', max_size=200))
def test_the_depth_of_a_body_ignores_brackets_in_texts(text: str) -> None:
    assert decode_json(encode_json([text])) == [text]


def test_a_plugin_that_seeds_pythons_random_numbers_does_not_choose_our_ids() -> None:
    drawn = set()
    for _ in range(2):
        random.seed(1)
        drawn.add(random_id())
    assert len(drawn) == 2
