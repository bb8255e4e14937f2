"""The key ``formerly`` renames a queue. Its messages, bindings, retries and dead letters move."""

from __future__ import annotations

import copy
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from tests.amqp import Message, channel_to, drained, publish, publish_all
from tests.chaos.proxy import Proxy
from tests.rabbit import Vhost, wait_until
from tests.running import Runner, plain
from tests.topologies import Shop

BASE: dict[str, Any] = {
    "exchanges": {"shop": {"type": "topic"}},
    "queues": {"old.name": {"bind": {"shop": ["a", "b"]}, "retry": ["10m", "20m"]}},
}
DONE = "done: the broker matches topology.yaml"


def renamed(**queue: Any) -> dict[str, Any]:
    topology = copy.deepcopy(BASE)
    topology["queues"] = {"new.name": topology["queues"]["old.name"] | {"formerly": "old.name"} | queue}
    return topology


def numbered(exchange: str, key: str, numbers: range, **headers: Any) -> Iterator[Message]:
    for number in numbers:
        properties = pika.BasicProperties(message_id=str(number), delivery_mode=2, headers=headers or None)
        yield exchange, key, b"{}", properties


def ids(vhost: Vhost, queue: str) -> list[str]:
    with channel_to(vhost.url) as channel:
        return [str(properties.message_id) for _, properties, _ in drained(channel, queue)]


def bound(vhost: Vhost) -> set[tuple[str, str]]:
    return {(one["destination"], one["routing_key"]) for one in vhost.bindings() if one["source"]}


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(BASE)
    assert one.run("apply")[0] == 0
    return one


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_all_messages_of_a_queue_move_in_order_and_a_second_run_has_nothing_to_do(shop: Shop, kind: str) -> None:
    vhost = shop.vhost
    publish_all(vhost.url, numbered("shop", "a", range(3)))
    publish_all(vhost.url, numbered("", "old.name.retry.10m", range(10, 12), **{"x-attempt": 1}))
    publish_all(vhost.url, numbered("", "old.name.retry.20m", range(20, 21)))
    publish_all(vhost.url, numbered("", "old.name.dlq", range(30, 32), **{"x-origin-queue": "old.name"}))
    foreign = "/bindings/{0}/e/amq.topic/q/old.name"
    vhost.rabbit.api("POST", foreign.format(vhost.name), {"routing_key": "theirs"})
    # One of the two delays is kept. Messages that wait for the other delay are handled at once.
    shop.write(renamed(type=kind, retry=["10m"]))
    (line,) = [one for one in shop.plan()["changes"] if one["mark"] == ">"]
    assert (line["name"], line["new_name"]) == ("old.name", "new.name")
    assert line["where"] == "topology.yaml:12"
    code, output = shop.run("apply")
    assert (code, output.splitlines()[-1]) == (0, DONE)
    assert "> queue    rename old.name -> new.name" in output
    assert "queue new.name: 8 messages moved from old.name" in output
    assert set(vhost.queues()) == {"new.name", "new.name.retry.10m", "new.name.dlq"}
    assert bound(vhost) == {("new.name", "a"), ("new.name", "b"), ("new.name", "theirs")}
    assert not [one for one in vhost.rabbit.api("GET", f"/policies/{vhost.name}") if "old.name" in one["name"]]
    assert [one for one in shop.plan()["changes"] if one["mark"] != "?"] == []
    assert shop.run("apply") == (0, f"{DONE}\n")
    assert vhost.ready("new.name.retry.10m") == 2
    code, output = shop.run("dlq", "replay", "--all")
    assert code == 0, output
    assert ids(vhost, "new.name") == ["20", "0", "1", "2", "30", "31"]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_dead_letters_of_the_broker_itself_are_replayed_to_the_new_name(shop: Shop, kind: str) -> None:
    shop.write(BASE | {"queues": {"old.name": BASE["queues"]["old.name"] | {"type": kind, "dead_letter": "parked"}}})
    if kind == "classic":
        assert shop.run("apply", "--replace", "old.name")[0] == 0
    assert shop.run("apply")[0] == 0
    # One dead-letter queue is shared with other queues, so it is not renamed. The other belongs to this queue and is
    # renamed.
    with channel_to(shop.vhost.url) as channel:
        publish(channel, "shop", "a", b"{}", pika.BasicProperties(message_id="1"))
        method, _, _ = channel.basic_get("old.name")
        channel.basic_reject(method.delivery_tag, requeue=False)
        wait_until(lambda: shop.vhost.ready("parked") == 1, 10, "it is dead-lettered")
    shop.write(renamed(type=kind, dead_letter="parked"))
    assert shop.run("apply")[0] == 0
    assert shop.run("dlq", "replay", "--all")[0] == 0
    assert ids(shop.vhost, "new.name") == ["1"]


def test_a_consumed_queue_keeps_its_name_and_messages_until_the_consumer_stops(shop: Shop) -> None:
    vhost = shop.vhost
    topology = renamed()
    topology["queues"]["new.name"]["bind"]["shop"].append("c")
    shop.write(topology)
    with channel_to(vhost.url) as channel:
        channel.basic_consume("old.name", lambda *_: None)
        code, output = shop.run("apply")
        assert code == 3
        reason = "'old.name' has 1 consumer; stop the service that consumes the queue, then run: python -m runner apply"
        assert f"left: queue 'old.name': {reason}" in plain(output)
        # The old queue also gets the new queue's messages. Each routing key has exactly one queue.
        assert bound(vhost) == {("old.name", "a"), ("old.name", "b"), ("old.name", "c")}
        assert {(one["mark"], one["name"]) for one in shop.plan()["changes"] if one["mark"] != "?"} == {
            (">", "old.name"),
            *(("+", f"shop -({key})-> new.name") for key in "abc"),
        }
        publish(channel, "shop", "c", b"{}", pika.BasicProperties(message_id="1"))
    assert shop.run("apply")[0] == 0
    assert bound(vhost) == {("new.name", "a"), ("new.name", "b"), ("new.name", "c")}
    assert ids(vhost, "new.name") == ["1"]


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
    one = Proxy([("127.0.0.1", int(urlsplit(vhost.url).port or 0))])
    yield one
    one.close()


class Stream:
    """A publisher that never stops, and a consumer of the new queue that starts once the queue exists."""

    def __init__(self, vhost: Vhost) -> None:
        self._vhost, self._stopping = vhost, threading.Event()
        self.published: list[str] = []
        self.handled: list[tuple[str, bool]] = []
        self._threads = [threading.Thread(target=one) for one in (self._publish, self._consume)]
        for one in self._threads:
            one.start()

    def _publish(self) -> None:
        with channel_to(self._vhost.url) as channel:
            while not self._stopping.wait(0.01):
                id = f"live {len(self.published)}"
                properties = pika.BasicProperties(message_id=id, delivery_mode=2)
                publish(channel, "shop", "a", b"{}", properties, mandatory=True)
                self.published.append(id)

    def _consume(self) -> None:
        wait_until(lambda: "new.name" in self._vhost.queues(), 60, "the new queue is there")
        with channel_to(self._vhost.url) as channel:
            channel.basic_qos(prefetch_count=50)
            for method, properties, _ in channel.consume("new.name", inactivity_timeout=0.3):
                if method is not None:
                    channel.basic_ack(method.delivery_tag)
                    again = method.redelivered or bool((properties.headers or {}).get("x-redelivered"))
                    self.handled.append((str(properties.message_id), again))
                elif self._stopping.is_set():
                    return

    def stop(self) -> None:
        self._stopping.set()
        for one in self._threads:
            one.join(30)


@pytest.mark.timeout(200)
def test_a_rename_under_load_with_two_kills_loses_nothing_and_duplicates_have_the_same_id(
    tmp_path: Path, shop: Shop, proxy: Proxy
) -> None:
    vhost, count, body = shop.vhost, 900, b"x" * 100
    first = [("shop", "b", body, pika.BasicProperties(message_id=str(one), delivery_mode=2)) for one in range(count)]
    publish_all(vhost.url, first)
    publish_all(vhost.url, numbered("", "old.name.retry.10m", range(count, count + 100)))
    publish_all(vhost.url, numbered("", "old.name.dlq", range(count + 100, count + 200)))
    slow = Shop(tmp_path / "slow", vhost)
    slow.config["broker"]["url"] = vhost.url.replace(f":{urlsplit(vhost.url).port}/", f":{proxy.ports[0]}/")
    for one in (shop, slow):
        one.write(renamed())
    stream = Stream(vhost)
    try:
        wait_until(lambda: len(stream.published) > 20, 20, "it publishes")
        command = [sys.executable, "-m", "runner", "--project", str(slow.folder), "apply"]
        for reach in (30_000, 150_000):
            proxy.blackhole_after(reach)
            runner = Runner(command, tmp_path)
            wait_until(lambda: proxy.is_black, 60, "the bytes are used up")
            assert runner.stop(signal.SIGKILL) == -signal.SIGKILL
            proxy.heal()
            assert [one["mark"] for one in shop.plan()["changes"] if one["mark"] == ">"] == [">"]
        wait_until(
            lambda: vhost.queues()["old.name"].get("consumers") == 0, 30, "the connection of the killed one is gone"
        )
        assert shop.run("apply")[0] == 0
        settled = len(stream.published)
        wait_until(lambda: len(stream.published) > settled + 20, 20, "it still publishes")
    finally:
        stream.stop()
    handled = Counter(id for id, _ in stream.handled)
    assert set(handled) == {str(one) for one in range(count)} | set(stream.published), "nothing is lost"
    twice = {id for id, times in handled.items() if times > 1}
    flagged = {id for id, again in stream.handled if again}
    # Live messages may arrive twice while the bindings move. All other duplicates have the redelivered flag.
    assert {id for id in twice if not id.startswith("live")} <= flagged
    assert len(twice - flagged) < 50
    waiting = ids(vhost, "new.name.retry.10m"), ids(vhost, "new.name.dlq")
    assert [set(map(int, one)) for one in waiting] == [
        set(range(count, count + 100)),
        set(range(count + 100, count + 200)),
    ]
    assert set(vhost.queues()) == {"new.name", "new.name.retry.10m", "new.name.retry.20m", "new.name.dlq"}


def test_two_runs_at_once_rename_a_queue_once(tmp_path: Path, shop: Shop) -> None:
    vhost = shop.vhost
    publish_all(vhost.url, numbered("shop", "a", range(400)))
    other = Shop(tmp_path / "other", vhost)
    for one in (shop, other):
        one.write(renamed())
    command = [sys.executable, "-m", "runner", "--project"]
    runs = [Runner([*command, str(one.folder), "apply"], tmp_path) for one in (shop, other)]
    # A run may find nothing to do, leave the rest to the other run, or meet a queue that is just being deleted.
    codes = {run.process.wait(60) for run in runs}
    assert codes <= {0, 3, 75}, [run.output for run in runs]
    assert shop.run("apply")[0] == 0
    assert bound(vhost) == {("new.name", "a"), ("new.name", "b")}
    found = ids(vhost, "new.name")
    assert sorted(map(int, found)) == [*range(400)]
    assert "old.name" not in vhost.queues()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"max-length": 2}, "max-length 2 has no room for 3 messages; raise it, or consume some first"),
        (
            {"max-length-bytes": 2, "overflow": "drop-head"},
            "max-length-bytes 2 may have no room for 3 messages; raise it, or set overflow: reject-publish",
        ),
    ],
)
def test_a_queue_without_room_for_the_messages_keeps_its_name(shop: Shop, policy: dict[str, Any], why: str) -> None:
    publish_all(shop.vhost.url, numbered("shop", "a", range(3)))
    shop.write(renamed(policy=policy))
    code, output = shop.run("apply")
    assert code == 3
    assert f"left: queue 'old.name': in 'new.name', {why}" in output
    assert ids(shop.vhost, "old.name") == ["0", "1", "2"]


def test_a_stream_keeps_its_name(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write({"queues": {"old.name": {"type": "stream"}}})
    assert shop.run("apply")[0] == 0
    shop.write({"queues": {"new.name": {"formerly": "old.name"}}})
    code, output = shop.run("apply")
    assert code == 3
    assert (
        "left: queue 'old.name': 'old.name' is a stream, and a stream cannot be moved; list it under 'retire'" in output
    )


def test_without_the_http_api_a_queue_is_not_renamed_and_nothing_is_declared(shop: Shop) -> None:
    shop.config["broker"]["management"] = "http://127.0.0.1:9"
    shop.write(renamed())
    code, output = shop.run("apply")
    assert code == 78
    assert output.splitlines()[-1] == (
        "topology.yaml:13: queue 'old.name' cannot be renamed to 'new.name' without RabbitMQ's HTTP API; enable"
        " rabbitmq_management, or remove the key 'formerly'"
    )
    assert "new.name" not in shop.vhost.queues()
