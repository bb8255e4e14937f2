"""``publish`` puts one message into one queue, or reports why it is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.amqp import channel_to
from tests.dead_lettered import held, many, publish, take
from tests.rabbit import Rabbit, Vhost
from tests.topologies import Shop

TOPOLOGY: dict[str, Any] = {
    "exchanges": {"orders": {"type": "topic"}},
    "queues": {
        "pay": {"bind": {"orders": ["order.#"]}, "retry": ["1s"]},
        "mail": {"type": "classic", "bind": {"orders": ["#"]}},
        "gone": {"type": "classic"},
        "full": {"type": "classic", "policy": {"max-length": 1, "overflow": "reject-publish"}},
    },
}


@pytest.fixture(scope="module")
def vhost(rabbit: Rabbit) -> Iterator[Vhost]:
    """Provide one vhost for all tests of this file, whose queues are empty before each test."""
    one = rabbit.make_vhost("publish")
    yield one
    one.delete()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, vhost: Vhost) -> Shop:
    """Return a project whose queues are declared."""
    one = Shop(tmp_path_factory.mktemp("publish"), vhost)
    one.write(TOPOLOGY)
    assert one.run("apply")[0] == 0
    return one


def test_a_message_reaches_only_the_named_queue_with_its_properties(shop: Shop, vhost: Vhost) -> None:
    code, output = shop.run(
        "publish", "pay", "--type", "order.created", "--body", '{"amount": "5.10"}', "--header", "tenant=a=b", "--json"
    )
    assert code == 0
    found = json.loads(output)
    ((_, properties, body),) = take(vhost.url, "pay", 1)
    assert (body, properties.type, properties.message_id) == (b'{"amount": "5.10"}', "order.created", found["id"])
    assert (properties.content_type, properties.delivery_mode, properties.app_id) == ("application/json", 2, "publish")
    assert properties.headers["tenant"] == "a=b"
    assert found == {
        "queue": "pay", "id": found["id"], "type": "order.created", "content_type": "application/json", "bytes": 18,
    }  # fmt: skip
    (shop.folder / "body.bin").write_bytes(b"\xff\x00")
    code, output = shop.run("publish", "mail", "--file", str(shop.folder / "body.bin"))
    assert code == 0
    ((_, properties, body),) = take(vhost.url, "mail", 1)
    assert (body, properties.content_type) == (b"\xff\x00", "application/octet-stream")
    assert output == f"published to mail: {properties.message_id}\n"
    # A body is never read as an option, and generated queues can be named too.
    assert shop.run("publish", "pay.dlq", "--body", "--json")[0] == 0
    ((_, properties, body),) = take(vhost.url, "pay.dlq", 1)
    assert (body, properties.content_type) == (b"--json", "text/plain")
    assert held(vhost.url, "pay", "mail", "pay.dlq") == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["payy", "--body", "{}"], 2, "unknown queue 'payy'; did you mean 'pay'?"),
        (["pay"], 2, "no body; allowed: exactly one of --body TEXT and --file FILE"),
        (["pay", "--body", "{}", "--file", "x"], 2, "--body and --file were both given; allowed: exactly one of"),
        (["pay", "--file", "none.json"], 2, "none.json: cannot be read, No such file or directory"),
        (["pay", "--body", "{}", "--header", "tenant"], 2, "not valid, 'tenant'; allowed: NAME=VALUE"),
        (["pay", "--body", "{}", "--header", "a=1", "--header", "a=2"], 2, "given twice, 'a'; allowed: each name once"),
        (["pay", "--body", "{}", "--header", "x-attempt=9"], 2, "reserved name, 'x-attempt', which workers or the"),
        (["pay", "--body", "{}", "--header", "CC=mail"], 2, "reserved name, 'CC', which workers or the broker set"),
        (["pay", "--body", "{}", "--type", "t" * 256], 2, "a property cannot be encoded for AMQP"),
    ],
)
def test_a_wrong_command_line_publishes_nothing(
    shop: Shop, vhost: Vhost, arguments: list[str], code: int, error: str
) -> None:
    exit_code, output = shop.run("publish", *arguments)
    assert (exit_code, held(vhost.url, "pay", "mail")) == (code, [0, 0])
    assert error in " ".join(output.split())


def test_a_message_that_the_broker_refuses_is_reported(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "full", many(1))
    code, output = shop.run("publish", "full", "--body", "{}")
    text = "the broker refused the message, probably because the queue is full; the message was not published"
    assert (code, output) == (75, f"queue 'full': {text}\n")
    with channel_to(vhost.url) as channel:
        channel.queue_delete("gone")
    code, output = shop.run("publish", "gone", "--body", "{}")
    assert code == 1
    assert "queue 'gone': not on the broker yet; to create it:" in output


def test_an_unreachable_broker_is_reported(tmp_path: Path, vhost: Vhost) -> None:
    other = Shop(tmp_path, vhost)
    other.config["broker"]["url"] = "amqp://127.0.0.1:1/"
    other.write(TOPOLOGY)
    code, output = other.run("publish", "pay", "--body", "{}")
    assert code == 75
    assert "127.0.0.1:1" in output
