"""Queues that report no counts do not stop other queues, and are never deleted with messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.admin import administrator as admin_module
from runner.admin import queue_counts as look_module
from runner.admin.administrator import Administrator
from runner.admin.management import Management
from runner.admin.queue_counts import QueueCounts, look, verified_counts, version_at
from runner.errors import BrokerUnreachable
from tests.amqp import channel_to, publish_all
from tests.rabbit import Vhost
from tests.topologies import Shop


@pytest.fixture
def locked(vhost: Vhost) -> Iterator[str]:
    """Yield an exclusive queue of another connection. It answers no other client, like a queue whose node is down."""
    with channel_to(vhost.url) as channel:
        channel.queue_declare("locked.dlq", exclusive=True)
        yield "locked.dlq"


def declare(vhost: Vhost, name: str, kind: str, messages: int) -> None:
    with channel_to(vhost.url) as channel:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
    persistent = pika.BasicProperties(delivery_mode=2)
    publish_all(vhost.url, [("", name, str(number).encode(), persistent) for number in range(messages)])


@pytest.mark.parametrize(
    "names",
    [
        ["locked.dlq", "full", "missing"],
        ["full", "locked.dlq", "missing"],
        ["missing", "full", "locked.dlq"],
        ["locked.dlq", "missing", "full"],
        ["locked.dlq", "full"],
    ],
)
def test_a_queue_that_does_not_answer_stops_no_other_queue(vhost: Vhost, locked: str, names: list[str]) -> None:
    declare(vhost, "full", "classic", 2)
    unknown: dict[str, str] = {}
    url, found = look([vhost.url], names, unknown)
    expected = {"full": QueueCounts(2, 0), "missing": None}
    assert (url, found) == (vhost.url, {name: expected[name] for name in names if name != locked})
    assert list(unknown) == [locked]
    assert "exclusive access" in unknown[locked]
    with pytest.raises(BrokerUnreachable, match="exclusive access"):
        look([vhost.url], names)


def test_an_error_is_raised_if_no_queue_answers(vhost: Vhost, locked: str) -> None:
    with pytest.raises(BrokerUnreachable, match="exclusive access"):
        look([vhost.url], [locked], {})
    with pytest.raises(BrokerUnreachable):
        look(["amqp://guest:guest@127.0.0.1:1/"], ["a"], {})


def test_dead_letters_of_other_queues_are_listed(vhost: Vhost, locked: str, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    queues = {name: {"type": "classic", "dead_letter": f"{name}.dlq"} for name in ("locked", "work")}
    shop.write({"queues": queues}, {})
    declare(vhost, "work.dlq", "classic", 2)
    code, output = shop.run("dlq", "list")
    assert code == 0
    assert f"queue '{locked}'" in output
    assert "dead letters in this queue are missing from the result, so run the command again" in output
    assert "2 dead letters" in output
    code, _ = shop.run("dlq", "export", "--file", str(tmp_path / "out.jsonl"))
    assert code != 75


@pytest.fixture
def admin(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    """Return an administrator that first gets counts of 0 and no statistics, as for a busy quorum queue."""
    management = Management(vhost.url, vhost.rabbit.management)
    monkeypatch.setattr(management, "messages_of", lambda _: None)
    one = Administrator([vhost.url], management, lambda _: None)
    monkeypatch.setattr(admin_module, "look", lambda urls, names: (urls[0], dict.fromkeys(names, QueueCounts(0, 0))))
    return one


@pytest.mark.parametrize("messages", [0, 1, 3])
@pytest.mark.parametrize("is_consumed", [False, True])
def test_a_quorum_queue_that_reports_nothing_is_asked_for_a_message(
    vhost: Vhost, admin: Administrator, messages: int, is_consumed: bool
) -> None:
    declare(vhost, "q", "quorum", messages)
    with channel_to(vhost.url) as channel:
        if is_consumed:
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume("q", lambda *_: None)
            channel.connection.process_data_events(0)
        reason = admin.in_use("q")
    assert (reason is None) == (not messages and not is_consumed)
    assert reason is None or reason.startswith("kept, it has ")


def test_a_queue_with_an_unknown_count_is_kept(
    vhost: Vhost, admin: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(vhost, "q", "quorum", 2)
    empty: Any = lambda urls, names: (urls[0], dict.fromkeys(names, QueueCounts(0, 0)))  # noqa: E731
    monkeypatch.setattr(look_module, "look", empty)
    monkeypatch.setattr(admin_module, "ANSWER_TIMEOUT", 0.1)
    assert admin.in_use("q") == (
        "kept, queue 'q': the queue has messages but reports 0, because it is too busy to answer; apply again once the"
        " queue answers"
    )


def test_a_queue_that_does_not_answer_is_kept(vhost: Vhost, locked: str) -> None:
    management = Management(vhost.url, vhost.rabbit.management)
    reason = Administrator([vhost.url], management, lambda _: None).in_use(locked)
    assert reason is not None
    assert reason.startswith(f"kept, queue '{locked}'")


def test_counts_of_an_answering_broker_are_certain(vhost: Vhost) -> None:
    declare(vhost, "full", "quorum", 2)
    declare(vhost, "empty", "quorum", 0)
    assert verified_counts(vhost.url, "full", 5.0).messages == 2
    assert verified_counts(vhost.url, "empty", 5.0) == QueueCounts(0, 0)


def test_a_connection_reports_the_brokers_version(vhost: Vhost) -> None:
    live = Management(vhost.url, vhost.rabbit.management).live()
    assert version_at(vhost.url) == live.version
