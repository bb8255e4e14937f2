"""The codec writes and reads the same bytes as pika, and also values that pika cannot write."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame

from runner.amqp.wire.field_table import MAX_DEPTH, LongInt, TooDeep, Unencodable, read_value, write_value
from runner.amqp.wire.frame_codec import BasicAck, BasicDeliver, FrameReader, write_ack, write_publish
from runner.amqp.wire.property_codec import FLAGS, Properties, read_properties, write_properties
from runner.headers import Timestamp, Undecoded

SHORT = st.text(max_size=60)
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
#: Values that pika writes and reads as we do. It does neither with a double.
LEAVES = st.one_of(
    st.none(), st.booleans(), INTS, INTS.map(LongInt), st.text(max_size=300), st.binary(max_size=30),
    st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)).map(
        lambda when: when.replace(microsecond=0)
    ),
    st.decimals(-(10**6), 10**6, places=3).map(lambda number: number.normalize()).filter(lambda one: one != 0),
)  # fmt: skip


def nesting(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
        max_leaves=6,
    )


VALUES = nesting(LEAVES)
#: Values that only our codec writes.
ALL_VALUES = nesting(
    LEAVES
    | st.floats(allow_nan=False)
    | st.integers(1 << 60, (1 << 64) - 1).map(Timestamp)
    | st.decimals(-(10**6), 10**6, places=3)
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: SHORT
            for name in (
                "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type",
                "user_id", "app_id", "cluster_id",
            )
        },
        "headers": st.dictionaries(SHORT, VALUES, max_size=5),
        "delivery_mode": st.integers(0, 255),
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, (1 << 64) - 1),
    },
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def pikas_own_values() -> Iterator[None]:
    """Make pika write and read values with its own functions. Our adapter replaces one of them."""
    spec = importlib.util.find_spec("pika.data")
    assert spec is not None
    assert spec.loader is not None
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    own.long = LongInt  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pika.spec, "data", own)
        yield


def pikas_header(fields: dict[str, Any]) -> bytes:
    return bytes(frame.Header(1, 0, pika.BasicProperties(**fields)).marshal())[19:-1]


@settings(deadline=None)
@given(PROPERTIES)
def test_properties_are_written_and_read_as_in_pika(fields: dict[str, Any]) -> None:
    raw = pikas_header(fields)
    assert write_properties(fields) == raw
    pikas = pika.BasicProperties().decode(raw)
    ours = Properties(raw)
    assert {name: getattr(ours, name) for name in FLAGS} == pikas.__dict__
    assert (ours.problem, ours.remainder) == ("", b"")
    # A whole number keeps its width, so that a copy has the headers of its original.
    assert Properties.of(**{name: getattr(ours, name) for name in FLAGS}).encoded == raw


@settings(deadline=None)
@given(st.dictionaries(SHORT, ALL_VALUES, max_size=5))
def test_headers_of_every_type_are_read_as_they_were_written(headers: dict[str, Any]) -> None:
    raw = write_properties({"headers": headers})
    known = read_properties(raw)
    assert known["headers"] == headers
    assert write_properties(known) == raw


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_readable_value_is_the_same_after_it_is_written_again(raw: bytes) -> None:
    try:
        value, after = read_value(raw, 0)
    except (ValueError, IndexError, struct.error):
        return
    again, end = read_value(encoded := write_value(value), 0)
    assert end == len(encoded)
    assert after <= len(raw) or raw[:1] not in b"SxAF"
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "x" * 256}, {"message_id": 7}, {"headers": {"x" * 256: 1}}, {"headers": {"x": Ellipsis}},
        {"headers": {"x": [1, {"y": {1, 2}}]}}, {"headers": {7: 1}}, {"headers": {"x": 1 << 63}},
        {"headers": {"x": Decimal(1 << 40)}}, {"headers": {"x": datetime(1960, 1, 1, tzinfo=UTC)}},
        {"headers": ["x"]}, {"priority": 256}, {"delivery_mode": "2"}, {"timestamp": -1}, {"timestamp": 1 << 64},
        {"app_id": "\ud800"}, {"headers": {"x": (1, 2)}},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_pika_refuses_to_write_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever pika raises
        pikas_header(fields)
    with pytest.raises(ValueError) as ours:  # noqa: PT011 - the words are those of each value
        write_properties(fields)
    if isinstance(ours.value, Unencodable):
        assert str(ours.value).startswith(f"{next(iter(fields))}: ")


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+40"), Decimal("1E-400")])
def test_a_decimal_without_a_form_is_refused(number: Decimal) -> None:
    with pytest.raises(Unencodable, match="does not fit into 32 bits"):
        write_value(number)


def test_bytes_that_were_not_decoded_are_written_unchanged() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    raw = write_value(deep)
    with pytest.raises(TooDeep):
        read_value(raw, 0)
    assert write_value([Undecoded(raw)]) == write_value([deep])


@settings(deadline=None)
@given(SHORT, SHORT, PROPERTIES, st.binary(max_size=500), st.booleans())
def test_a_publish_is_written_as_in_pika(
    exchange: str, routing_key: str, fields: dict[str, Any], body: bytes, mandatory: bool
) -> None:
    properties = pika.BasicProperties(**fields)
    method = pika.spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    pikas = frame.Method(3, method).marshal() + frame.Header(3, len(body), properties).marshal()
    if body:
        pikas += frame.Body(3, body).marshal()
    encoded = write_properties(fields)
    assert write_publish(3, exchange, routing_key, encoded, body, mandatory=mandatory) == pikas


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1), st.booleans())
def test_an_ack_is_written_and_read_as_in_pika(tag: int, multiple: bool) -> None:
    raw = write_ack(2, tag, multiple=multiple)
    assert raw == frame.Method(2, pika.spec.Basic.Ack(tag, multiple)).marshal()
    assert list(FrameReader().receive(raw)) == [BasicAck(2, tag, multiple)]


@settings(deadline=None)
@given(SHORT, SHORT, PROPERTIES, st.binary(max_size=500), st.booleans(), st.lists(st.integers(0, 2000), max_size=8))
def test_a_delivery_is_read_as_pika_writes_it_in_any_chunks(
    exchange: str, routing_key: str, fields: dict[str, Any], body: bytes, redelivered: bool, cuts: list[int]
) -> None:
    method = pika.spec.Basic.Deliver("tag", 7, redelivered, exchange, routing_key)
    raw = frame.Method(3, method).marshal() + frame.Header(3, len(body), pika.BasicProperties(**fields)).marshal()
    raw += (frame.Body(3, body).marshal() if body else b"") + frame.Heartbeat().marshal()
    ends = [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    reader = FrameReader()
    found = [one for begin, end in zip([0, *ends], ends, strict=False) for one in reader.receive(raw[begin:end])]
    deliver, heartbeat = found
    assert isinstance(deliver, BasicDeliver)
    assert deliver == BasicDeliver(3, "tag", 7, redelivered, exchange, routing_key, deliver.properties, body)
    assert deliver.properties.encoded == pikas_header(fields)
    assert heartbeat == frame.Heartbeat().marshal()


@settings(deadline=None)
@given(st.binary(max_size=120), st.lists(st.integers(0, 120), max_size=4))
def test_any_bytes_are_written_as_they_were_read_or_kept(raw: bytes, cuts: list[int]) -> None:
    # Two kinds of frames have values; these bytes begin with no such frame.
    raw = b"\x08" + raw
    ends = [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    reader, found = FrameReader(), b""
    for begin, end in zip([0, *ends], ends, strict=False):
        for one in reader.receive(raw[begin:end]):
            assert isinstance(one, bytes)
            found += one
    assert raw.startswith(found)
    assert found + reader._rest == raw
