"""Messages of a hostile or careless client, as bytes, and a client that sends frames that no library sends."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.amqp.session import Session
from runner.amqp.wire.property_codec import Properties

#: The properties' flags, in the order of AMQP 0-9-1.
_NAMES = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to",
    "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
)  # fmt: skip
#: Names of this system's headers, which a sender may write too.
OURS = (
    "x-attempt", "x-replays", "x-replayed-at", "x-sent-at", "x-published-at", "x-made-id", "x-redelivered",
    "x-origin-queue", "x-origin-exchange", "x-origin-routing-key", "x-first-error", "x-last-error", "x-causation-id",
    "x-original", "x-drain-expiration", "x-failed-at", "x-death", "x-first-death-queue", "x-delivery-count",
)  # fmt: skip
#: The size of headers that leave no room for those of a copy, in bytes.
FULL = 130_900


def short(text: bytes) -> bytes:
    """Return a short string."""
    return bytes((len(text),)) + text


def sized(kind: bytes, inner: bytes) -> bytes:
    """Return a value with a length: a string (S), bytes (x), a list (A) or a table (F)."""
    return kind + struct.pack(">I", len(inner)) + inner


def nested(depth: int, kind: bytes = b"A", inner: bytes = b"V") -> bytes:
    """Return lists or tables inside each other."""
    for _ in range(depth):
        inner = sized(kind, inner if kind == b"A" else short(b"k") + inner)
    return inner


def table(*entries: tuple[bytes, bytes]) -> bytes:
    """Return a table of headers, with its length."""
    inner = b"".join(short(name) + value for name, value in entries)
    return struct.pack(">I", len(inner)) + inner


def properties(**fields: bytes) -> bytes:
    """Return properties with these encoded values, with their flags."""
    flags = sum(1 << (15 - place) for place, name in enumerate(_NAMES) if name in fields)
    return struct.pack(">H", flags) + b"".join(fields[name] for name in _NAMES if name in fields)


#: Values of each type, also at its limits.
VALUES = (
    b"t\x02", b"b\x80", b"B\xff", b"s\x80\x00", b"u\xff\xff", b"I\x80\x00\x00\x00", b"i\xff\xff\xff\xff",
    b"l" + b"\x80" + bytes(7), b"l" + b"\x7f" + b"\xff" * 7, b"f\x7f\x7f\xff\xff",
    b"d\x7f\xef" + b"\xff" * 6, b"d\x00\x00\x00\x00\x00\x00\x00\x01", b"D\xff\x7f\xff\xff\xff",
    b"D\x00\xff\xff\xff\xff", b"D\x80\x00\x00\x00\x00",
    b"T" + b"\xff" * 8, b"T" + struct.pack(">Q", 1_772_000_000_000), b"T" + bytes(8), b"V",
    sized(b"S", b"M\xfcller \xff\xfe"), sized(b"S", "\u202e\x1b[31m".encode()), sized(b"S", b"\0" * 20),
    sized(b"x", bytes(range(256))), sized(b"A", b"V" * 1000), sized(b"A", b""), sized(b"F", b""),
    sized(b"F", short(b"k") + b"V" + short(b"k") + b"t\1"), nested(60), nested(60, b"F"),
)  # fmt: skip
#: Values that are nested too deep to be decoded.
DEEP = tuple(nested(depth, kind) for depth in (65, 100, 500, 2000) for kind in (b"A", b"F"))
#: Invalid values, such as a length beyond the end, and values that RabbitMQ does not read, such as an infinity.
BROKEN = (
    b"S\xff\xff\xff\xffx", b"A\x00\x00\x00\x09I\x00", b"F\x00\x00\x00\x03\xffkV", b"?\x00", b"Z", b"",
    sized(b"A", b"?"), sized(b"F", short(b"k") + b"~"), sized(b"A", b"S\xff\xff\xff\xff"), b"l\x00",
    sized(b"F", b"\x05k"), nested(10, b"A", b"?"), sized(b"A", b"I\x00\x00"), b"D\x00", b"\0",
    b"d\x7f\xf0" + bytes(6), b"d\x7f\xf8" + bytes(6), b"f\x7f\x80\x00\x00",
)  # fmt: skip
#: Numbers that a sender may use as a time.
TIMES = (
    0,
    1,
    1_772_000_000,
    1_772_000_000_000,
    1_772_000_000_000_000,
    253_402_300_799,
    253_402_300_800,
    2**63,
    2**64 - 1,
)


@dataclass(frozen=True)
class Hostile:
    """One message."""

    properties: bytes
    body: bytes
    #: True if a service can handle it, because only its optional properties are unusual.
    is_fit: bool = False


def order(number: int) -> bytes:
    """Return the event of a good order."""
    identity = f"00000000-0000-4000-8000-{number:012}"
    known = {"order_id": identity, "customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}
    return json.dumps(known).encode()


def fitting(count: int, seed: int) -> Iterator[Hostile]:
    """Yield messages that a broker accepts: each kind in turn, with random values."""
    draw = random.Random(seed)
    for number in range(count):
        yield _KINDS[number % len(_KINDS)](draw, number)


def _identity(number: int) -> bytes:
    return short(b"hostile-%06d" % number)


def _headers(draw: random.Random, number: int) -> Hostile:
    """Return a message with values of every type; the body is an order."""
    entries = [(b"h%d" % place, draw.choice(VALUES)) for place in range(draw.randint(1, 8))]
    entries += [(b"h0", b"V"), (b"", b"V"), (b"\xff" * 255, b"V")]
    known = properties(headers=table(*entries), message_id=_identity(number), type=short(b"order.created"))
    return Hostile(known, order(number), is_fit=True)


def _deep(draw: random.Random, number: int) -> Hostile:
    """Return a message with other headers and one that is nested too deep; only this header makes the order unfit."""
    entries = [(b"a", b"t\1"), (b"deep", draw.choice(DEEP)), (b"z", draw.choice(VALUES))]
    draw.shuffle(entries)
    known = properties(headers=table(*entries), message_id=_identity(number), type=short(b"order.created"))
    return Hostile(known, order(number))


def _forged(draw: random.Random, number: int) -> Hostile:
    """Return a message with forged headers of this system."""
    numbers = [struct.pack(">cq", b"l", one) for one in (2**62, -(2**62), -1, 0, 3, 2**31, 2**63 - 1)]
    texts = [sized(b"S", one) for one in (b"many", b"no.such.queue", b"notification.order.events", b"x" * 3000)]
    entries = [(name.encode(), draw.choice([*numbers, *texts, *VALUES])) for name in draw.sample(OURS, 6)]
    known = properties(headers=table(*entries), message_id=_identity(number), type=short(b"order.created"))
    return Hostile(known, draw.choice([b"{}", b"[]", b"\xff\xfe", b"{" * 5000]))


def _times(draw: random.Random, number: int) -> Hostile:
    """Return a message with a timestamp in another unit, and names that are not UTF-8."""
    known = properties(
        timestamp=struct.pack(">Q", draw.choice(TIMES)), app_id=short(b"\xff" * draw.choice([1, 255])),
        correlation_id=short(b"\xfe" * draw.choice([1, 80, 255])), content_type=short(b"text/\xff"),
        message_id=_identity(number), type=short(b"order.created"), content_encoding=short(b"\xff" * 9),
        priority=b"\xff", reply_to=short(b"amq.x"), cluster_id=short(b"\0" * 255),
    )  # fmt: skip
    return Hostile(known, order(number), is_fit=True)


def _nameless(draw: random.Random, number: int) -> Hostile:
    """Return a message without id and type, or with values for them that are not text."""
    fields = {"message_id": short(draw.randbytes(255)), "type": short(draw.randbytes(draw.randint(0, 255)))}
    known = properties(**{name: value for name, value in fields.items() if draw.random() < 0.7})
    return Hostile(known, b"%d " % number + draw.randbytes(draw.choice([0, 1, 3000, 200_000])))


def _large(draw: random.Random, number: int) -> Hostile:
    """Return a message whose headers fill their frame, in one value or in thousands; a copy has no room for more."""
    inner = (
        short(b"h") + sized(b"S", b"x" * FULL)
        if draw.random() < 0.5
        else b"".join(short(b"%d" % one) + b"V" for one in range(16_000))
    )
    known = properties(headers=struct.pack(">I", len(inner)) + inner, message_id=_identity(number))
    return Hostile(known, b"no order")


def _copied(draw: random.Random, number: int) -> Hostile:
    """Return a message with all headers and properties that control the broker or belong to a queue."""
    entries = [
        (b"CC", sized(b"A", sized(b"S", b"nowhere"))), (b"x-delay", b"I\x00\x00\x00\x05"),
        (b"x-match", sized(b"S", b"all")), (b"x-death", sized(b"A", b"V")),
        (b"x-opt-delivery-time", draw.choice(VALUES)),
    ]  # fmt: skip
    known = properties(
        headers=table(*entries), priority=b"\x09", expiration=short(b"600000"), message_id=_identity(number),
        delivery_mode=draw.choice([b"\1", b"\2"]), content_encoding=short(b"gzip"),
    )  # fmt: skip
    return Hostile(known, b"\x1f\x8b no order")


_KINDS: tuple[Callable[[random.Random, int], Hostile], ...] = (
    _headers, _deep, _forged, _times, _nameless, _copied, _deep, _large, _forged, _times,
)  # fmt: skip


def broken() -> Iterator[bytes]:
    """Yield properties that no client should be able to send: most brokers refuse them and close the connection."""
    for value in BROKEN:
        yield properties(headers=table((b"broken", value), (b"after", b"V")), message_id=short(b"broken"))
    yield properties(headers=b"\xff\xff\xff\xff")
    yield properties(headers=struct.pack(">I", 3) + b"\x01kV\x01", message_id=short(b"broken"))
    yield b"\x80\x00\xff"
    yield b"\x00\x01\x00\x00"
    yield b"\x80\x01\x80\x00" + short(b"a")
    yield b"\x00\x40"
    yield b"\xff\xff"


class Client:
    """A foreign client that publishes to an exchange and waits for each confirm."""

    def __init__(self, url: str, exchange: str, routing_key: str) -> None:
        self._url, self._exchange, self._key = url, exchange, routing_key

    def publish(self, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish properties and bodies.

        Raises BrokerUnreachable if the broker refuses, and AssertionError for a nack.
        """
        left = set(range(1, len(messages) + 1))

        def on_confirm(frame: Any) -> None:
            method = frame.method
            assert type(method).__name__ == "Ack", "the broker refused a message"
            left.difference_update([one for one in left if one <= method.delivery_tag] if method.multiple else [])
            left.discard(method.delivery_tag)
            if not left:
                session.finish()

        def on_channel(channel: Any) -> None:
            channel.add_on_close_callback(lambda _, error: session.fail(error))
            channel.confirm_delivery(on_confirm)
            for encoded, body in messages:
                channel.basic_publish(self._exchange, self._key, body, Properties(encoded))

        session = Session(self._url, "a stranger", on_channel)
        session.run(60)
