"""``peek`` shows a queue again and again without a change or a loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.config.version import NACK_IS_NO_FAILURE
from runner.queues.peek import Peek
from tests import amqp
from tests.amqp import channel_to
from tests.dead_lettered import Content, many, publish, take, take_all
from tests.rabbit import Vhost
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {
        "quorum": {"bind": {"orders": ["a.#"]}},
        "classic": {"type": "classic"},
        "first": {"type": "classic", "arguments": {"x-single-active-consumer": True}},
        "single": {"arguments": {"x-single-active-consumer": True}},
    },
}


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    """Return a project on a broker that has only this test's queues."""
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    return one


def declare(vhost: Vhost, name: str, **arguments: Any) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare(name, durable=True, arguments=arguments)


def peeked(shop: Shop, *arguments: str) -> Any:
    code, output = shop.run("peek", *arguments, "--json")
    assert code == 0
    return json.loads(output)


def ids(found: Any) -> list[str]:
    return [one["id"] for one in found["messages"]]


def is_counted(vhost: Vhost) -> bool:
    return not NACK_IS_NO_FAILURE.holds(vhost.rabbit.version)


@pytest.mark.parametrize("name", ["quorum", "classic", "first", "single"])
def test_the_first_messages_are_shown_and_stay_in_their_order(shop: Shop, vhost: Vhost, name: str) -> None:
    kind = "quorum" if name in ("quorum", "single") else "classic"
    single = {"x-single-active-consumer": True} if name in ("first", "single") else {}
    declare(vhost, name, **{"x-queue-type": kind, **single})
    publish(vhost.url, name, many(5))
    assert ids(peeked(shop, name)) == ["m000000"]
    for number in ("3", "2"):
        assert ids(peeked(shop, name, "-n", number)) == [f"m00000{at}" for at in range(int(number))]
    found = peeked(shop, name, "-n", "9")
    assert (len(found["messages"]), found["ready"]) == (5, 5)
    # Statistics are late. While they contradict the queue, the number is unknown.
    assert found["unacked"] in (0, None)
    assert found["counted"] == (kind == "quorum" and is_counted(vhost))
    assert take_all(vhost.url, name) == [f"m00000{at}" for at in range(5)]


@pytest.mark.parametrize(("limit", "looks"), [(0, 3), (1, 4), (3, 6), (None, 23)])
def test_no_number_of_peeks_makes_the_broker_drop_a_message(
    shop: Shop, vhost: Vhost, limit: int | None, looks: int
) -> None:
    # Without a dead-letter exchange the broker drops messages that pass the limit. RabbitMQ 4 sets the limit to 20 by
    # default.
    declare(vhost, "other", **{"x-queue-type": "quorum"}, **({} if limit is None else {"x-delivery-limit": limit}))
    with channel_to(vhost.url) as channel:
        channel.exchange_declare("orders", "topic")
        channel.queue_bind("other", "orders", "#")
        properties = pika.BasicProperties(message_id="m0", priority=2, expiration="900000", headers={"tenant": "a"})
        amqp.publish(channel, "orders", "a.b", b"body", properties)
    publish(vhost.url, "other", many(1))
    moved = []
    for _ in range(looks):
        found = peeked(shop, "other", "-n", "2")
        assert sorted(ids(found)) == ["m0", "m000000"]
        moved += found["moved_to_end"]
    default = limit is not None or vhost.rabbit.version >= (4,)
    assert bool(moved) == (is_counted(vhost) and default)
    copies = {one[1].message_id: one for one in take(vhost.url, "other", 2)}
    assert set(copies) == {"m0", "m000000"}
    _, properties, body = copies["m0"]
    assert (body, properties.priority, properties.expiration) == (b"body", 2, "900000")
    assert properties.headers["tenant"] == "a"
    if moved:
        assert (properties.headers["x-origin-exchange"], properties.headers["x-origin-routing-key"]) == (
            "orders",
            "a.b",
        )


def test_a_message_at_its_delivery_limit_is_reported_as_moved_to_the_end(shop: Shop, vhost: Vhost) -> None:
    declare(vhost, "other", **{"x-queue-type": "quorum", "x-delivery-limit": 1})
    publish(vhost.url, "other", many(2))
    first, second = (shop.run("peek", "other")[1] for _ in range(2))
    if is_counted(vhost):
        assert "this read counts as a failed delivery of 1 message; its delivery limit is 1" in first
        assert "returned        1 time of 1" in second
        assert "message m000000: at its delivery limit, 1; the message is now at the end of the queue" in second
        assert take_all(vhost.url, "other") == ["m000001", "m000000"]
    else:
        assert "counts" not in first + second
        assert take_all(vhost.url, "other") == ["m000000", "m000001"]


def test_a_delivery_count_header_of_the_sender_does_not_move_a_message(shop: Shop, vhost: Vhost) -> None:
    declare(vhost, "other", **{"x-queue-type": "quorum", "x-delivery-limit": 3})
    publish(vhost.url, "other", many(1, **{"x-delivery-count": 99}))
    assert peeked(shop, "other")["moved_to_end"] == []


def test_unacked_messages_are_counted_and_not_shown(shop: Shop, vhost: Vhost) -> None:
    declare(vhost, "classic")
    assert shop.run("peek", "classic") == (0, "classic: 0 ready\n")
    publish(vhost.url, "classic", many(2))
    with channel_to(vhost.url) as channel:
        for _ in range(2):
            channel.basic_get("classic")
        channel.basic_consume("classic", lambda *_: None)
        code, output = shop.run("peek", "classic")
    # The number comes from statistics, which may be late.
    assert code == 0
    assert output.startswith("classic: 0 ready, ")
    assert output.endswith("1 consumer\n")


@pytest.mark.parametrize("name", ["first", "single"])
def test_a_queue_of_a_single_active_consumer_is_not_waited_for(shop: Shop, vhost: Vhost, name: str) -> None:
    kind = "quorum" if name == "single" else "classic"
    declare(vhost, name, **{"x-queue-type": kind, "x-single-active-consumer": True})
    declare(vhost, "other")
    with channel_to(vhost.url) as channel:
        channel.basic_consume(name, lambda *_: None)
        found = [shop.run(*one) for one in (("peek", name), ("purge", name, "--yes"), ("move", name, "other"))]
    for code, output in found:
        assert code == 1
        why = "the queue delivers only to its single active consumer; first: stop the program that consumes the queue"
        assert output == f"queue '{name}': {why}\n"


@pytest.mark.parametrize("looks", [(1, 3, 2, 1), (40, 1), (5, 4, 3, 2, 1), (1,) * 7])
@pytest.mark.parametrize("limit", [20, None])
def test_peeks_at_different_numbers_of_messages_keep_the_order(
    vhost: Vhost, looks: tuple[int, ...], limit: int | None
) -> None:
    given = {} if limit is None else {"x-delivery-limit": limit}
    declare(vhost, "other", **{"x-queue-type": "quorum"}, **given)
    publish(vhost.url, "other", many(60))
    if limit is None and vhost.rabbit.version >= (4,):
        limit = 20
    for number in looks:
        one = Peek(vhost.url, "other", number, "quorum", limit)
        one.run()
        assert [message.id for message in one.messages] == [f"m{at:06}" for at in range(number)]
    assert take_all(vhost.url, "other") == [f"m{at:06}" for at in range(60)]


def test_a_stream_is_refused(shop: Shop, vhost: Vhost) -> None:
    declare(vhost, "log", **{"x-queue-type": "stream"})
    words = "peek does not support streams; allowed: a classic or quorum queue"
    assert shop.run("peek", "log") == (1, f"queue 'log': {words}\n")


HOSTILE: list[Content] = [
    (b"\x1b[2J", pika.BasicProperties(message_id="\x1b[31mid", type="\x07", headers={"\x1b": "\x1b"})),
    (b"\xff\xfe", pika.BasicProperties(message_id="m1", content_type="\u202e")),
    (b"", pika.BasicProperties()),
    (b'{"a": 1.10, "a": 2}', pika.BasicProperties(message_id="m3", headers={"x-attempt": -1, "x-death": "no list"})),
    (b"[" * 5000, pika.BasicProperties(message_id="m4", timestamp=2**62, headers={"deep": [[[[]]]]})),
    (b"x" * 100_000, pika.BasicProperties(message_id="m5", headers={"x-delivery-count": "many"})),
]


def test_all_fields_of_a_message_are_shown_without_terminal_control_codes(shop: Shop, vhost: Vhost) -> None:
    declare(vhost, "classic")
    publish(vhost.url, "classic", HOSTILE)
    code, output = shop.run("peek", "classic", "-n", "10")
    assert code == 0
    assert output.count("\nid ") == len(HOSTILE)
    assert not set(output) & {"\x1b", "\x07"}
    assert len(peeked(shop, "classic", "-n", "10")["messages"]) == len(HOSTILE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clasic", "unknown queue 'clasic'; did you mean 'classic'?"),
        ("quorum.dlqs", "unknown queue 'quorum.dlqs'; did you mean 'quorum.dlq'?"),
        ("", "unknown queue ''; allowed: "),
        ("no\nqueue", "unknown queue 'no\\nqueue'; allowed: "),
        ("x" * 200, "unknown queue 'xxx"),
        ("x" * 256, "unknown queue 'xxx"),
        ("é" * 128, "unknown queue 'ééé"),
        ("x" * 70_000, "unknown queue 'xxx"),
        ("a\udcff", "unknown queue 'a\\udcff'; allowed: "),
        ("\ud800", "unknown queue '\\ud800'; allowed: "),
    ],
)
def test_an_unknown_queue_is_refused(shop: Shop, name: str, words: str) -> None:
    code, output = shop.run("peek", name)
    assert code == 2
    assert words in output


def test_a_queue_that_is_not_declared_yet_is_reported(shop: Shop) -> None:
    code, output = shop.run("peek", "quorum")
    assert code == 1
    assert output.startswith("queue 'quorum': not on the broker yet; to create it: ")
    assert output.endswith(f" --project {shop.folder} apply\n")


def test_without_the_http_api_a_queue_with_an_unknown_limit_is_not_read(shop: Shop, vhost: Vhost) -> None:
    for name in ("other", "quorum"):
        declare(vhost, name, **{"x-queue-type": "quorum"})
        publish(vhost.url, name, many(1))
    shop.config["broker"]["management"] = "http://127.0.0.1:1"
    shop.write(TOPOLOGY)
    assert ids(peeked(shop, "quorum")) == ["m000000"]
    code, output = shop.run("peek", "other")
    if is_counted(vhost):
        assert code == 1
        assert "its type and delivery limit are unknown, and each read may count as a failed delivery" in output
    else:
        assert code == 0
