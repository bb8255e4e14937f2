"""Reports of ``dlq`` about messages that it cannot see or reach, and about the messages of a whole order."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.deadletters import open_queues, snapshot
from runner.deadletters.selection import Selection
from runner.supervisor.lock import take_lock
from tests.amqp import channel_to
from tests.dead_lettered import TOPOLOGY, failed, held, publish, take_all
from tests.ports import free_port
from tests.rabbit import Vhost, wait_until
from tests.topologies import Shop


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Shop:
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY)
    assert one.run("apply")[0] == 0
    return one


@contextlib.contextmanager
def reader(url: str, queue: str) -> Iterator[None]:
    """Consume a queue without acknowledging, so that all its messages are unacked."""
    with channel_to(url) as channel:
        channel.basic_consume(queue, lambda *_: None)
        wait_until(lambda: held(url, queue) == [0], 10, "all messages are unacked")
        yield


def test_unacked_messages_of_another_consumer_are_not_reported_as_no_dead_letters(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_queues, "READERS_TIMEOUT", 0)
    publish(shop.vhost.url, "pay.dlq", [failed("a1")])
    with reader(shop.vhost.url, "pay.dlq"):
        said = "no visible dead letters: another consumer of pay.dlq may be holding all messages unacked\n"
        code, output = shop.run("dlq", "list")
        assert code == 1
        assert output.endswith(said)
        assert shop.run("dlq", "list", "--json")[0] == 1
        for done, arguments in (
            ("replayed", ("replay", "--all")), ("replayed", ("replay", "--match", "gateway")),
            ("would be replayed", ("replay", "--all", "--dry-run")), ("discarded", ("discard", "--all", "--yes")),
            ("exported", ("export",)),
        ):  # fmt: skip
            code, output = shop.run("dlq", *arguments)
            assert code == 1
            assert output.endswith(said.replace("no visible dead letters", f"nothing {done} for now"))
        code, output = shop.run("dlq", "show", "a1")
        assert code == 1
        assert output.endswith("; but another consumer of pay.dlq may be holding all messages unacked\n")
        assert shop.run("dlq", "list", "--queue", "mail")[0] == 0
        publish(shop.vhost.url, "lost", [failed("c1", queue="mail")])
        code, output = shop.run("dlq", "list")
        assert code == 0
        assert "1 dead letter;" in output
    wait_until(lambda: held(shop.vhost.url, "pay.dlq") == [1], 10, "it is requeued")
    assert shop.run("dlq", "list")[0] == 0


def test_dead_letters_of_a_queue_that_was_removed_from_the_topology_are_reported(shop: Shop) -> None:
    publish(shop.vhost.url, "pay.dlq", [failed("a1")])
    queues = {name: one for name, one in TOPOLOGY["queues"].items() if name != "pay"}
    shop.write({"exchanges": TOPOLOGY["exchanges"], "queues": queues})
    said = (
        "queue pay.dlq: 1 message, but its original queue is no longer in topology.yaml; to read the messages, add the"
        " original queue again\n"
    )
    # The broker's statistics are some seconds late.
    wait_until(lambda: said in shop.run("dlq", "list")[1], 20, "it is reported")
    assert said not in shop.run("dlq", "list", "--queue", "mail")[1]
    shop.config["broker"]["management"] = "http://127.0.0.1:1"
    shop.write({"exchanges": TOPOLOGY["exchanges"], "queues": queues})
    assert shop.run("dlq", "list") == (0, "no dead letters\n")
    shop.write(TOPOLOGY)
    assert "topology.yaml" not in shop.run("dlq", "list")[1]


def test_an_empty_dead_letter_queue_is_reported_by_name_beside_full_queues(shop: Shop) -> None:
    publish(shop.vhost.url, "lost", [failed("c1", queue="mail")])
    for name in ("stock", "pay"):
        for done, arguments in (("replayed", ("replay",)), ("discarded", ("discard", "--yes"))):
            found = shop.run("dlq", *arguments, "--queue", name)
            assert found == (0, f"nothing {done}: no dead letters for queue {name}\n")
    target = shop.folder / "out"
    found = shop.run("dlq", "export", "--queue", "stock", "--file", str(target))
    assert found == (0, "nothing exported: no dead letters for queue stock\n")


def test_all_dead_letters_of_an_order_are_shown_and_replayed(shop: Shop, tmp_path: Path) -> None:
    contents = [failed("a1"), failed("a2"), failed("a3")]
    for _, properties in contents[:2]:
        properties.correlation_id = "5f2dd97f-order"
    publish(shop.vhost.url, "pay.dlq", contents)
    code, output = shop.run("dlq", "show", "5f2dd")
    assert code == 0
    assert [line.split()[-1] for line in output.splitlines() if line.startswith("id ")] == ["a1", "a2"]
    body = tmp_path / "body"
    body.write_text("{}")
    code, output = shop.run("dlq", "replay", "--id", "5f2dd", "--body", str(body))
    assert code == 1
    assert "correlation id '5f2dd' is ambiguous; 2 dead letters match: 'a1', 'a2'" in output
    assert shop.run("dlq", "replay", "--id", "5f2dd") == (0, "2 messages replayed\n")
    assert take_all(shop.vhost.url, "pay") == ["a1", "a2"]
    assert json.loads(shop.run("dlq", "list", "--json")[1])["messages"] == 1


def test_an_unreachable_broker_exits_with_75_and_names_the_waiting_runner(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    port = free_port()
    shop.config["broker"] = {"url": f"amqp://127.0.0.1:{port}/", "autostart": True}
    shop.write(TOPOLOGY)
    with take_lock(shop.folder / "var"):
        for command in (("dlq", "list"), ("plan",), ("apply",)):
            code, output = shop.run(*command)
            assert code == 75
            where = f"in this folder (pid {os.getpid()})"
            said = f"127.0.0.1:{port}: no broker answers, although a supervisor is running {where}"
            assert said in output
            assert "compare RABBITMQ_URL in both environments" in output


def test_a_snapshot_contains_the_first_messages_of_each_queue_and_removes_none(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MOST_MESSAGES", 3)
    publish(shop.vhost.url, "pay.dlq", [failed(f"a{number}") for number in range(5)])
    publish(shop.vhost.url, "lost", [failed("c1", queue="mail", error="no server")])
    found = snapshot.read_snapshot(shop.folder)
    assert ([one.message.id for one in found.dead_letters], found.total) == (["a0", "a1", "a2", "c1"], 6)
    assert found.origins == ["mail", "pay"]
    assert [one.message.id for one in found.selected(Selection(match="A1"))] == ["a1"]
    assert [one.count for one in found.grouped(Selection(), "pay").groups()] == [3]
    assert [one.message.id for one in found.selected(Selection(), "lost")] == ["c1"]
    wait_until(lambda: held(shop.vhost.url, "pay.dlq", "lost") == [5, 1], 10, "all messages are requeued")
    assert take_all(shop.vhost.url, "pay.dlq") == ["a0", "a1", "a2", "a3", "a4"]
    monkeypatch.setattr(snapshot, "MAX_BODIES", 0)
    assert snapshot.read_snapshot(shop.folder).dead_letters == ()


def test_a_snapshot_reads_no_queue_that_drops_messages_after_some_reads(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    limited = {"type": "quorum", "arguments": {"x-delivery-limit": 1}}
    shop.write({"queues": {**TOPOLOGY["queues"], "pay.dlq": limited}, "exchanges": TOPOLOGY["exchanges"]})
    assert shop.run("apply")[0] == 0
    publish(vhost.url, "pay.dlq", [failed("a1")])
    for _ in range(4):
        found = snapshot.read_snapshot(shop.folder)
        wait_until(lambda: held(vhost.url, "pay.dlq") == [1], 10, "the message is in its queue")
    assert (found.dead_letters, found.counts) == ((), {"pay.dlq": 1})
    assert "delivery limit of 1, so its messages are not shown" in " ".join(found.warnings)
    assert take_all(vhost.url, "pay.dlq") == ["a1"]
