"""With an inbox each message counts once, in spite of duplicate deliveries and killed workers."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import pytest
from sqlalchemy import func, select

from runner.store.process_store import Store
from runner.store.schema import inbox
from tests.amqp import Message, publish_all
from tests.jobs import CONFIG, TOPOLOGY, publish
from tests.keeping import CHARGES, EMAILS, make_tables
from tests.postgres import Postgres
from tests.proof import DATABASES, times
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project, Runner, workers_killed

ORDERS = times(100, 2000)


def publish_orders(url: str, orders: list[str]) -> None:
    """Publish ``order.created`` for each entry. The same order is always the same event."""

    def message(order: str) -> Message:
        body = {"order_id": order, "customer_email": "alice@example.com", "amount": "9.99", "currency": "EUR"}
        properties = pika.BasicProperties(
            message_id=f"event-{order}", type="order.created", correlation_id=order, delivery_mode=2,
            content_type="application/json",
        )  # fmt: skip
        return "orders.topic", "order.created", json.dumps(body).encode(), properties

    publish_all(url, map(message, orders))


def turn_on_inboxes(project: Project, url: str) -> None:
    """Give payment and notification an inbox."""
    config = project.config()
    config["store"] = {"url": url}
    config["services"]["payment"] |= {"inbox": True, "instances": 2}
    config["services"]["notification"] |= {"inbox": True, "instances": 2}
    config["services"]["payment"]["options"] = {"failure_rate": 0.0, "latency": "5ms"}
    project.set_config(config)


def messages_left(vhost: Vhost) -> int:
    return sum(one.get("messages") or 0 for name, one in vhost.queues().items() if not name.endswith(".dlq"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_orders_that_are_delivered_three_times_while_workers_are_killed_are_charged_and_reported_once(
    project: Project, vhost: Vhost, database: str, tmp_path: Path
) -> None:
    turn_on_inboxes(project, database)
    assert project.run("apply", url=vhost.url).process.wait(30) == 0
    orders = [str(uuid.uuid4()) for _ in range(ORDERS)]
    thrice = random.Random(3).sample(orders * 3, 3 * ORDERS)
    publish_orders(vhost.url, thrice[: 2 * ORDERS])
    runner = project.run("run", "payment", "notification", url=vhost.url)
    runner.pid_of("payment.2")
    store = make_tables(Store(database, tmp_path))

    def count(table: Any, *where: Any) -> int:
        return int(store.read(select(func.count()).select_from(table).where(*where))[0][0])

    with workers_killed(runner, 0.5) as killed:
        wait_until(lambda: count(CHARGES) > ORDERS / 4, 120, "the first are charged")
        publish_orders(vhost.url, thrice[2 * ORDERS :])
        wait_until(lambda: count(CHARGES) == ORDERS, 200, "all are charged")
        wait_until(lambda: count(EMAILS) == 2 * ORDERS, 200, "all e-mails are sent")
    wait_until(lambda: messages_left(vhost) == 0, 60, "nothing is left")
    print(f"{ORDERS} orders, each delivered 3 times, {len(killed)} kills")
    for kind in ("order.created", "payment.success"):
        assert count(EMAILS, EMAILS.c.type == kind) == ORDERS
        e_mailed = store.read(select(EMAILS.c.order_id).where(EMAILS.c.type == kind))
        assert {one.order_id for one in e_mailed} == set(orders)
    assert {one.order_id for one in store.read(select(CHARGES.c.order_id))} == set(orders)
    assert count(inbox, inbox.c.service == "payment") == ORDERS
    assert not any(one.get("messages") for name, one in vhost.queues().items() if name.endswith(".dlq"))
    assert runner.stop() == 0
    store.close(5)
    print(f"{runner.output.count('received from payment.order.created')} attempts at the gateway")


@dataclass(frozen=True)
class Documented:
    """A runner with the plugin of docs/delivery.md and an inbox."""

    jobs: Project
    vhost: Vhost
    runner: Runner


@pytest.fixture(scope="module")
def documented(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    """Run the plugin for the tests that leave it unchanged."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    jobs = Project(tmp_path_factory.mktemp("documented") / "project")
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "delivery.md").read_text(), re.DOTALL)
    jobs.plugin("jobs", source)
    jobs.set_topology(TOPOLOGY)
    service = {**CONFIG["services"]["jobs"], "inbox": True}
    jobs.set_config({"broker": {"url": "${RABBITMQ_URL}"}, "services": {"jobs": service}})
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    yield Documented(jobs, vhost, runner)
    code = runner.process.poll() or runner.stop()
    jobs.close()
    vhost.delete()
    assert code == 0


#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("the plugin in the docs")


@shared
def test_the_plugin_in_the_docs_stores_its_rows_and_a_second_delivery_adds_none(documented: Documented) -> None:
    jobs, vhost = documented.jobs, documented.vhost
    for order in ("a", "b", "a", "a"):
        publish(vhost, json.dumps({"order_id": order, "currency": "EUR"}), message_id=f"event-{order}")
    # Under another id, the table's key refuses the same order. Only this message fails.
    publish(vhost, json.dumps({"order_id": "a", "currency": "EUR"}), message_id="other")
    (dead_letter,) = wait_until(lambda: vhost.messages("jobs.dlq"), 20)
    assert dead_letter["properties"]["message_id"] == "other"
    assert "IntegrityError" in dead_letter["properties"]["headers"]["x-last-error"]
    with sqlite3.connect(jobs.folder / "var" / "fastcommerce.db") as database:
        rows = database.execute(
            "select order_id from seen_currencies where order_id in ('a', 'b') order by 1"
        ).fetchall()
        assert rows == [("a",), ("b",)]
        ids = database.execute("select message_id from inbox where message_id <> 'waits' order by 1").fetchall()
        assert ids == [("event-a",), ("event-b",)]
    database.close()


@shared
def test_a_message_waits_for_a_locked_database_and_is_not_dead_lettered(documented: Documented) -> None:
    jobs, vhost, runner = documented.jobs, documented.vhost, documented.runner
    store = Store("sqlite:///var/fastcommerce.db", jobs.folder)
    with store.engine.begin():  # no other connection can write
        publish(vhost, '{"order_id": "waits", "currency": "EUR"}', message_id="waits")
        runner.wait_for("writing to the database is paused: database is locked; retrying", 20)
        assert "the database is unreachable: database is locked" in jobs.call("status", "--json", url=vhost.url)[1]
    its = select(inbox.c.message_id).where(inbox.c.message_id == "waits")
    wait_until(lambda: len(store.read(its)) == 1, 20, "it is handled once the lock is gone")
    runner.wait_for("the database is back")
    assert "waits" not in [one["properties"]["message_id"] for one in vhost.messages("jobs.dlq")]
    store.close(5)


def test_a_service_waits_for_an_unreachable_database_and_is_not_fatal(jobs: Project, vhost: Vhost) -> None:
    server = Postgres()
    try:
        jobs.plugin("jobs", "from runner import hookimpl\n\n@hookimpl\ndef handle(message):\n    pass\n")
        config = jobs.config()
        config["store"] = {"url": server.make_database("shop")}
        config["services"]["jobs"] |= {
            "inbox": True, "backoff": {"max": "500ms"}, "restart_limit": {"count": 2, "window": "1m"},
        }  # fmt: skip
        jobs.set_config(config)
        server.stop()
        runner = jobs.run(url=vhost.url)
        runner.wait_for("jobs.1 +. ERROR: store.url: postgresql.*: is unreachable, ", 20)
        # The service restarts more often than it may fail.
        runner.wait_for(r"jobs.1 exited with status 74 \(database unreachable\): restarting in", 60, count=3)
        server.start()
        runner.pid_of("jobs.1")
        assert "FATAL" not in runner.output
        assert runner.stop() == 0
    finally:
        server.close()
