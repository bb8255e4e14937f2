"""``queues`` and ``status``: the number of waiting messages on a real broker."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.admin.management import Management
from runner.admin.statistics import StatisticsReader
from runner.cli.status_command import ready_messages
from tests.amqp import channel_to
from tests.dead_lettered import TOPOLOGY, many, publish
from tests.rabbit import Vhost, wait_until
from tests.topologies import Shop

SERVICES = {"payment": {"consumes": ["pay"]}, "mailer": {"consumes": ["mail", "pay"]}}
#: An address without a server.
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def written(tmp_path: Path, vhost: Vhost) -> Shop:
    """Return a project whose queues are not declared."""
    one = Shop(tmp_path / "shop", vhost)
    one.write(TOPOLOGY, SERVICES)
    return one


@pytest.fixture
def shop(written: Shop) -> Shop:
    """Return a project whose queues are declared."""
    assert written.run("apply")[0] == 0
    return written


@pytest.fixture
def user(vhost: Vhost) -> Iterator[str]:
    """Create a user without tags, which the HTTP API refuses."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": ""})
    api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": ".*", "write": ".*", "read": ".*"})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


def listed(shop: Shop, *names: str) -> dict[str, Any]:
    """Return the output of ``queues --json`` by queue."""
    code, output = shop.run("queues", "--json", *names)
    assert code == 0
    return {one["queue"]: one for one in json.loads(output)["queues"]}


def test_each_queue_has_one_line_with_its_retries_its_dead_letters_and_its_services(shop: Shop, vhost: Vhost) -> None:
    for queue, count in (("pay", 4), ("pay.dlq", 2), ("lost", 1)):
        publish(vhost.url, queue, many(count))
    # A message in the retry queue would return after a second.
    shop.write(
        {**TOPOLOGY, "queues": {**TOPOLOGY["queues"], "pay": {**TOPOLOGY["queues"]["pay"], "retry": ["1h"]}}}, SERVICES
    )
    assert shop.run("apply")[0] == 0
    publish(vhost.url, "pay.retry.1h", many(3))
    with channel_to(vhost.url) as channel:
        channel.queue_declare("else")
    found = listed(shop)
    assert list(found) == ["pay", "mail", "stock"]
    kept = ("ready", "consumers", "retrying", "dead_letters", "services", "notes")
    assert [found["pay"][name] for name in kept] == [4, 0, 3, 2, ["payment", "mailer"], ["no consumer"]]
    assert [found["mail"][name] for name in kept] == [0, 0, 0, 1, ["mailer"], []]
    code, output = shop.run("queues", "stock", "pay")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()[:3]] == ["QUEUE", "pay", "stock"]
    assert "2 other queues on the broker" in output, "pay.retry.1s stays after an edit"
    assert "\x1b" not in output


def test_unacked_messages_are_not_ready_and_a_consumer_is_not_missing(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "mail", many(5))
    management = Management(vhost.url, vhost.rabbit.management)
    with channel_to(vhost.url) as channel:
        channel.basic_qos(prefetch_count=2)
        channel.basic_consume("mail", lambda *_: None)
        wait_until(lambda: management.unacknowledged_of("mail") == 2, 20, "2 are unacked")
        found = listed(shop, "mail")["mail"]
    assert (found["ready"], found["unacked"], found["consumers"], found["notes"]) == (3, 2, 1, [])


def test_rates_and_ages_come_from_the_statistics(shop: Shop, vhost: Vhost) -> None:
    statistician = StatisticsReader(Management(vhost.url, vhost.rabbit.management))
    pause = threading.Event()

    def known() -> Any:
        # RabbitMQ adds a sample every 5 s.
        pause.wait(0.5)
        publish(vhost.url, "mail", many(3))
        found = statistician.read(time.time())["mail"]
        return found.published and sum(ready > 0 for _, ready, _ in found.history) >= 2

    wait_until(known, 60, "two samples with messages")
    # The broker's uptime is a statistic too, so the command may trust the history a little later.
    found = wait_until(lambda: ((one := listed(shop, "mail")["mail"])["oldest"] and one) or pause.wait(1), 30, "an age")
    assert found["in_per_second"] > 0
    assert found["out_per_second"] == 0
    assert 5 <= found["oldest"]["seconds"] < 120


@pytest.mark.parametrize("way", ["no API", "no tag"])
def test_without_the_http_api_unknown_values_are_question_marks(shop: Shop, vhost: Vhost, user: str, way: str) -> None:
    shop.config["broker"] |= {"management": NOWHERE} if way == "no API" else {"url": user}
    shop.write(TOPOLOGY, SERVICES)
    publish(vhost.url, "pay", many(4))
    with channel_to(vhost.url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("mail", lambda *_: None)
        code, output = shop.run("queues")
    assert code == 0
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert lines[1] == "pay 4 0 0 ? ? ? 0 0 payment, mailer no consumer"
    assert lines[2] == "mail 0 ? 1 ? ? - 0 0 mailer"
    assert lines[4].startswith("no statistics: RabbitMQ's HTTP API at ")


def test_a_queue_that_is_not_declared_yet_is_reported(written: Shop) -> None:
    found = listed(written)
    assert {name: (one["ready"], one["unacked"], one["notes"]) for name, one in found.items()} == {
        name: (None, None, ["not on the broker"]) for name in TOPOLOGY["queues"]
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pai", "did you mean 'pay'?"),
        ("Mail", "did you mean 'mail'?"),
        ("stocks", "did you mean 'stock'?"),
        ("", "allowed: mail, pay, stock"),
        ("pay\x1b", "did you mean 'pay'?"),
        ("nothing.like.it", "allowed: mail, pay, stock"),
    ],
)
def test_an_unknown_queue_is_refused_with_the_allowed_names(written: Shop, name: str, words: str) -> None:
    code, output = written.run("queues", "mail", name)
    assert code == 2
    assert f"unknown queue {name!r}; {words}" in output


def test_watch_prints_the_queues_repeatedly_and_survives_a_lost_connection(shop: Shop, vhost: Vhost) -> None:
    shop.config["broker"]["management"] = NOWHERE
    shop.write(TOPOLOGY, SERVICES)
    with channel_to(vhost.url) as channel:
        channel.queue_delete("stock")
    command = [sys.executable, "-m", "runner", "--project", str(shop.folder), "queues", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def entry() -> Any:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            return found["queues"][0] if "queues" in found else found

        try:
            assert entry()["ready"] == 0
            publish(vhost.url, "pay", many(7))
            found = wait_until(lambda: (one := entry())["ready"] == 7 and one, 20, "the new messages")
            # The rate comes from the command's own samples, because a queue without a consumer loses no messages.
            assert found["in_per_second"] > 0
            assert found["out_per_second"] == 0
            wait_until(vhost.close_connections, 20, "the connection is known")
            wait_until(lambda: "error" in entry(), 20, "it reports the lost connection")
            assert wait_until(lambda: "ready" in (one := entry()) and one, 20, "it is back")["ready"] == 7
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(20) == 130


def test_status_reads_the_ready_messages_of_each_service_from_the_broker(shop: Shop, vhost: Vhost) -> None:
    publish(vhost.url, "pay", many(4))
    publish(vhost.url, "mail", many(1))
    assert ready_messages(shop.folder) == {"payment": 4, "mailer": 5}
    with channel_to(vhost.url) as channel:
        channel.queue_delete("mail")
    assert ready_messages(shop.folder) == {"payment": 4, "mailer": None}


@pytest.mark.parametrize(
    "url", ["amqp://127.0.0.1:1/", "amqp://guest:wrong@{address}", "amqp://{address}nothing", "silent", "two"]
)
def test_status_does_not_wait_for_a_broker_that_does_not_answer(written: Shop, vhost: Vhost, url: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quiet = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        address = vhost.rabbit.url.partition("@")[2]
        urls: dict[str, Any] = {"silent": quiet, "two": [quiet, quiet]}
        written.config["broker"]["url"] = urls.get(url) or url.format(address=address)
        written.write(TOPOLOGY, SERVICES)
        started = time.monotonic()
        assert ready_messages(written.folder) == {"payment": None, "mailer": None}
        assert time.monotonic() - started < 5


def test_status_reports_no_messages_if_the_files_cannot_be_read(written: Shop) -> None:
    (written.folder / "config.yaml").write_text("services: [")
    assert ready_messages(written.folder) == {}
