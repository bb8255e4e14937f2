"""Our short way for a message's frames says to the byte what pika says."""

import string
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame

from runner.amqp import content, decoder, field, frames
from runner.amqp.connection import Channel, Connection

field.install()
SHORT = st.text(max_size=60)
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | LONGS | st.text(max_size=300) | st.binary(max_size=30) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=6,
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


def in_order(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields in the order of their flags."""
    return {name: fields[name] for name in pika.BasicProperties().__dict__ if name in fields}


def pikas_header(properties: pika.BasicProperties, length: int = 0) -> bytes:
    return bytes(frame.Header(1, length, properties).marshal())


@settings(deadline=None)
@given(PROPERTIES)
def test_properties_are_written_as_pika_writes_them(fields):
    properties = pika.BasicProperties(**fields)
    assert content.write_properties(in_order(fields)) == pikas_header(properties)[19:-1]


@pytest.mark.parametrize(
    "fields",
    [{"type": "x" * 256}, {"message_id": 7}, {"headers": {"x" * 256: 1}}, {"headers": {"x": object()}}],
    ids=["a long text", "a number for a text", "a long name", "a value of no kind"],
)
def test_what_pika_refuses_is_refused_as_by_pika(fields):
    properties = pika.BasicProperties(**fields)
    with pytest.raises(Exception) as pikas:  # noqa: PT011 - whatever pika raises
        pikas_header(properties)
    with pytest.raises(type(pikas.value)):
        content.write_properties(fields)


@settings(deadline=None)
@given(PROPERTIES)
def test_properties_are_read_as_pika_reads_them(fields):
    raw = pikas_header(pika.BasicProperties(**fields))
    _, read = frame.decode_frame(raw)
    ours = decoder.read_properties(raw, frames.PROPERTIES_AT, len(raw) - 1)
    assert ours.__dict__ == read.properties.__dict__
    late = content.Properties(raw[frames.PROPERTIES_AT : -1])
    assert {name: getattr(late, name) for name in ours.__dict__} == ours.__dict__
    # A whole number keeps its width, so that a copy has the headers of its original.
    assert pikas_header(ours) == raw


@settings(deadline=None)
@given(SHORT, SHORT, PROPERTIES, st.binary(max_size=500), st.booleans())
def test_a_publish_is_written_as_pika_writes_it(exchange, routing_key, fields, body, mandatory):
    properties = pika.BasicProperties(**fields)
    method = pika.spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    pikas = frame.Method(3, method).marshal() + frame.Header(3, len(body), properties).marshal()
    if body:
        pikas += frame.Body(3, body).marshal()
    encoded = content.write_properties(in_order(fields))
    assert frames.publish(3, exchange, routing_key, encoded, body, mandatory=mandatory) == pikas


@settings(deadline=None)
@given(st.integers(0, (1 << 64) - 1), st.booleans())
def test_an_ack_is_written_and_read_as_pika_does(tag, multiple):
    raw = frames.ack(2, tag, multiple=multiple)
    assert raw == frame.Method(2, pika.spec.Basic.Ack(tag, multiple)).marshal()
    assert frames.read_ack(raw, 0) == (tag, multiple)


class Reader:
    """A connection without a socket, and what its channel was told."""

    def __init__(self, kind: Any) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.connection = kind.__new__(kind)
        self.connection._frame_buffer = b""
        self.connection.bytes_received = self.connection.frames_received = 0
        self.connection.callbacks = pika.callback.CallbackManager()
        self.connection._heartbeat_checker = SimpleNamespace(received=lambda: None)
        self.connection.params = SimpleNamespace(frame_max=1 << 17)
        self.connection.connection_state = self.connection.CONNECTION_OPEN
        channel = Channel(self.connection, 1, lambda _: None)
        channel._state = channel.OPEN
        channel._consumers["tag"] = self.delivered
        channel.on_confirm = self.confirmed
        for method in (pika.spec.Basic.Ack, pika.spec.Basic.Nack):
            self.connection.callbacks.add(1, method, self.confirmed, one_shot=False)
        channel.add_on_return_callback(lambda _, method, properties, body: self.told.append(("return", body)))
        # A second channel, whose frames may come in between.
        other = Channel(self.connection, 2, lambda _: None)
        other._state = other.OPEN
        other._consumers["tag"] = self.delivered
        self.connection._channels = {1: channel, 2: other}

    def delivered(self, _, method, properties, body):
        self.told.append(
            (
                method.consumer_tag, method.delivery_tag, method.redelivered, method.exchange, method.routing_key,
                properties.__dict__, body,
            )
        )  # fmt: skip

    def confirmed(self, one):
        self.told.append((type(one.method).__name__, one.method.delivery_tag, one.method.multiple))


def frames_of(method: Any, fields: dict[str, Any], bodies: list[bytes], channel: int = 1) -> list[bytes]:
    header = frame.Header(channel, sum(map(len, bodies)), pika.BasicProperties(**fields))
    all_of_it = (frame.Method(channel, method), header, *(frame.Body(channel, one) for one in bodies))
    return [bytes(one.marshal()) for one in all_of_it]


def message(method: Any, fields: dict[str, Any], bodies: list[bytes]) -> bytes:
    return b"".join(frames_of(method, fields, bodies))


def woven(orders: list[bool], first: list[bytes], second: list[bytes]) -> bytes:
    """The frames of two channels, in an order that AMQP allows."""
    rest, taken = [list(first), list(second)], []
    for is_second in orders:
        if rest[is_second]:
            taken.append(rest[is_second].pop(0))
    return b"".join(taken + rest[0] + rest[1])


ALL = [
    st.builds(
        message,
        st.builds(
            pika.spec.Basic.Deliver, st.just("tag"), st.integers(1, 1 << 40), st.booleans(), SHORT, SHORT
        ),
        PROPERTIES,
        st.lists(st.binary(min_size=1, max_size=200), max_size=3),
    ),
    st.builds(
        lambda fields, body: message(pika.spec.Basic.Return(312, "NO_ROUTE", "e", "k"), fields, [body]),
        PROPERTIES,
        st.binary(min_size=1, max_size=50),
    ),
    st.builds(
        lambda kind, tag, multiple: frame.Method(1, kind(tag, multiple)).marshal(),
        st.sampled_from([pika.spec.Basic.Ack, pika.spec.Basic.Nack]),
        st.integers(1, 1 << 40),
        st.booleans(),
    ),
    st.just(frame.Method(1, pika.spec.Channel.Flow(True)).marshal()),
    st.just(frame.Heartbeat().marshal()),
    st.builds(
        lambda orders, bodies: woven(
            orders,
            frames_of(pika.spec.Basic.Deliver("tag", 1, False, "e", "first"), {"type": "first"}, bodies),
            frames_of(pika.spec.Basic.Deliver("tag", 2, False, "e", "second"), {"type": "second"}, bodies, 2),
        ),
        st.lists(st.booleans(), max_size=8),
        st.lists(st.binary(min_size=1, max_size=20), max_size=2),
    ),
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(*ALL), max_size=8), st.lists(st.integers(0, 4000), max_size=12))
def test_whatever_comes_and_however_it_is_cut_up_is_read_as_pika_reads_it(pieces, cuts):
    raw = b"".join(pieces)
    ours, pikas = Reader(Connection), Reader(pika.SelectConnection)
    ends = [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for reader in (ours, pikas):
        begin = 0
        for end in ends:
            reader.connection._on_data_available(raw[begin:end])
            begin = end
    assert ours.told == pikas.told
    assert ours.connection.bytes_received == pikas.connection.bytes_received == len(raw)


def test_what_comes_for_a_cancelled_consumer_goes_back_as_by_pika():
    reader = Reader(Connection)
    channel = reader.connection._channels[1]
    channel._cancelled.add("tag")
    rejected: list[int] = []
    channel.basic_reject = rejected.append
    deliver = pika.spec.Basic.Deliver("tag", 5, False, "", "q")
    reader.connection._on_data_available(message(deliver, {"type": string.ascii_letters}, [b"x"]))
    assert (reader.told, rejected) == ([], [5])


def test_a_frame_without_its_end_is_refused_as_by_pika():
    raw = message(pika.spec.Basic.Deliver("tag", 5, False, "", "q"), {}, [b"x"])
    for broken in (raw[:-1] + b"\0", frames.ack(1, 5, multiple=False)[:-1] + b"\0"):
        with pytest.raises(pika.exceptions.InvalidFrameError):
            Reader(Connection).connection._on_data_available(broken)
