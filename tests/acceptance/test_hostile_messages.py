"""Messages of a hostile client among good orders. Good orders are paid, others are dead-lettered, services run."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from click.testing import CliRunner
from pika.exceptions import AMQPError

from runner.cli.main import main
from runner.errors import BrokerUnreachable
from tests import hostile
from tests.dead_lettered import held
from tests.proof import IS_FULL, times
from tests.rabbit import Vhost, wait_until
from tests.running import Project

SEED = 20261130
COUNT = times(60, 500)
#: Seconds from the first hostile message until all good orders are paid.
PAID_WITHIN = 30.0
CONSUMED = ("payment.order.created", "notification.order.events", "notification.payment.events")


def dlq(project: Project, *arguments: str) -> tuple[int, str]:
    """Run ``python -m runner dlq`` in this process, beside the running system."""
    began = time.monotonic()
    result = CliRunner().invoke(main, ["--project", str(project.folder), "dlq", *arguments], catch_exceptions=False)
    print(f"dlq {arguments[0]} took {time.monotonic() - began:.1f} s")
    return result.exit_code, result.output


def large_bodies() -> Iterator[tuple[bytes, bytes]]:
    """Yield bodies of many frames, with a header that cannot be decoded. RabbitMQ 3.10 accepts up to 128 MiB."""
    deep = hostile.table((b"deep", hostile.nested(500)))
    for size in times(2, 50) * 1_000_000, 300_000:
        yield hostile.properties(headers=deep, message_id=hostile.short(b"large-%d" % size)), b"x" * size


def paid(project: Project) -> dict[str, str]:
    """Return the message ids of the charges by order id."""
    with closing(sqlite3.connect(project.folder / "var" / "fastcommerce.db", timeout=20)) as database:
        return dict(database.execute("select order_id, message_id from charges"))


def attack(vhost: Vhost, messages: list[hostile.Hostile]) -> int:
    """Publish all messages, and return the number of broken ones that the broker accepted."""
    client = hostile.Client(vhost.url, "orders.topic", "order.created")
    for begin in range(0, len(messages), 20):
        client.publish([(one.properties, one.body) for one in messages[begin : begin + 20]])
    taken = 0
    for content in [*((one, b"broken") for one in hostile.broken()), *large_bodies()]:
        try:
            client.publish([content])
            taken += 1
        except (AMQPError, BrokerUnreachable) as error:
            # The broker refuses most of them, and since 4.0 also bodies of over 16 MiB.
            if not re.search("541|406|501", str(error)):
                raise
    return taken


@pytest.mark.timeout(600 if IS_FULL else 120)
@pytest.mark.parametrize(
    "kinds", [("quorum", "quorum"), ("classic", "classic")] if IS_FULL else [("quorum", "classic")]
)
def test_good_orders_are_paid_among_hostile_messages_and_the_others_are_dead_lettered(
    project: Project, vhost: Vhost, kinds: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", vhost.url)
    topology = project.topology()
    topology["defaults"]["queue_type"], topology["queues"][CONSUMED[1]]["type"] = kinds
    for queue in topology["queues"].values():
        if "retry" in queue:
            queue["retry"] = ["200ms"]
    project.set_topology(topology)
    config = project.config()
    for service in ("payment", "notification"):
        config["services"][service]["inbox"] = True
    config["services"]["payment"]["options"] = {"failure_rate": 0, "latency": "0ms"}
    project.set_config(config)
    runner = project.run(url=vhost.url)
    good = {project.first_order()}
    runner.pid_of("payment.1")  # its tables exist now
    messages = list(hostile.fitting(COUNT, SEED))
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        attacked = thread.submit(attack, vhost, messages)
        while len(good) < COUNT:
            status, answer = project.post()
            assert status == 202, answer
            good.add(answer["order_id"])
        print(f"{len(good)} orders accepted after {time.monotonic() - began:.1f} s")
        taken = attacked.result()
    print(f"{len(messages)} hostile messages published after {time.monotonic() - began:.1f} s")
    wait_until(
        lambda: good <= paid(project).keys(), PAID_WITHIN - (time.monotonic() - began), "all good orders are paid"
    )

    print(f"all good orders paid after {time.monotonic() - began:.1f} s")
    fit = {json.loads(one.body)["order_id"] for one in messages if one.is_fit}
    unfit = len(messages) - len(fit) + taken
    names = [f"{name}.dlq" for name in CONSUMED[:2]]
    wait_until(lambda: fit <= paid(project).keys(), 20, "orders with odd properties are paid")
    assert paid(project).keys() == good | fit

    def dead_letters() -> list[int]:
        return held(vhost.url, *CONSUMED, *names)

    wait_until(lambda: dead_letters() == [0, 0, 0, unfit, unfit], 30, f"{unfit} are in each dead-letter queue")
    print(f"all others dead-lettered after {time.monotonic() - began:.1f} s")
    for slot in ("payment.1", "notification.1", "order_api.1"):
        assert runner.output.count(f"{slot} RUNNING") == 1
    assert "restarting" not in runner.output
    assert "waiting for the broker" not in runner.output

    listed = json.loads(dlq(project, "list", "--json")[1])
    assert listed["messages"] == 2 * unfit
    assert any("nested too deep" in one["error"] for one in listed["groups"])
    exported = project.folder / "exported.jsonl"
    assert dlq(project, "export", "--file", str(exported))[0] == 0
    assert len(exported.read_text("utf-8").splitlines()) == 2 * unfit
    code, output = dlq(project, "replay", "--queue", CONSUMED[0], "--match", "nested too deep")
    deep = sum(one["count"] for one in listed["groups"] if "deep" in one["error"] and one["origin"] == CONSUMED[0])
    assert (code, output.splitlines()[-1]) == (0, f"{deep} messages replayed")
    wait_until(lambda: dead_letters() == [0, 0, 0, unfit, unfit], 30, "they are dead-lettered again")
    code, output = dlq(project, "discard", "--all", "--yes")
    assert code == 0, output
    assert f"{2 * unfit} messages discarded" in output
    assert held(vhost.url, *names) == [0, 0]
    print(f"all replayed after {time.monotonic() - began:.1f} s")
    assert runner.stop() == 0
