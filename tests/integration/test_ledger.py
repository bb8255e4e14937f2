"""``ledger``: what is lost is named, and what is only on its way never is; on the real broker with the real runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from sqlalchemy import insert, update

from runner.store.database import open_database
from runner.store.schema import attempts, events
from tests.audited import turn_on
from tests.load import Load
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner

PAYMENT, MAIL, PAID = "payment.order.created", "notification.order.events", "notification.payment.events"


class Shop:
    """A project with audit, and what its ledger says."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost

    def command(self, *command: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *command],
            cwd=self.project.folder, env={**os.environ, "RABBITMQ_URL": self.vhost.url}, capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ledger(self, *options: str, code: int = 0) -> dict[str, Any]:
        result, output, errors = self.command("ledger", "--json", *options)
        assert result == code, output + errors
        found: dict[str, Any] = json.loads(output)
        return found

    def settled(self, figures: dict[str, tuple[int, ...]], *options: str) -> dict[str, Any]:
        """The ledger, once its queues have these figures of the one type in each."""

        def found() -> dict[str, Any] | None:
            one = self.ledger(*options)
            return one if {name: row(one, name) for name in figures} == figures else None

        result: dict[str, Any] = wait_until(found, 60, f"the ledger says {figures}")
        return result

    def post(self, count: int) -> list[str]:
        """Orders, each with an id of its own."""
        answers = [self.project.post() for _ in range(count)]
        assert [status for status, _ in answers] == [202] * count
        return [str(body["order_id"]) for _, body in answers]

    def run(self, *command: str) -> None:
        code, output, errors = self.command(*command)
        assert code == 0, output + errors

    def execute(self, *statements: Any) -> None:
        """Change the database behind everybody's back."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.begin() as connection:
            for one in statements:
                connection.execute(one)
        engine.dispose()


def of_queue(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [one for one in found["queues"] if one["queue"] == name]
    return dict(one)


def row(found: dict[str, Any], name: str, kind: str | None = None) -> tuple[int, ...]:
    """Published, handled, parked, discarded, waiting, lost, and handled twice."""
    rows = [one for one in of_queue(found, name)["events"] if kind in (None, one["type"])]
    names = ("published", "handled", "parked", "discarded", "waiting", "lost", "twice")
    return tuple(sum(one[name] for one in rows) for name in names)


def orders_lost(found: dict[str, Any], name: str) -> list[str]:
    return sorted(one["order_id"] for one in of_queue(found, name)["lost"])


@pytest.fixture
def shop(project: Project, vhost: Vhost, tmp_path: Any) -> Shop:
    turn_on(project, f"sqlite:///{tmp_path}/shop.db")
    project.options("payment", failure_rate=0.0, latency="1ms", timeout_rate=0.0)
    topology = project.topology()
    topology["queues"][PAYMENT]["retry"] = ["100ms"]
    project.set_topology(topology)
    return Shop(project, vhost)


@pytest.fixture
def running(shop: Shop) -> Iterator[Runner]:
    runner = shop.project.run(url=shop.vhost.url)
    shop.project.first_order()
    yield runner
    assert runner.stop() == 0


def test_orders_that_are_handled_add_up_to_what_was_published(shop: Shop, running: Runner) -> None:
    shop.post(9)
    figures = dict.fromkeys((PAYMENT, MAIL, PAID), (10, 10, 0, 0, 0, 0, 0))
    found = shop.settled({**figures, "audit.events": (20, 20, 0, 0, 0, 0, 0)})
    assert (found["lost"], found["twice"], found["settled"]) == (0, 0, True)
    assert of_queue(found, "unrouted.all")["note"] == "no service reads it"
    code, output, _ = shop.command("ledger")
    assert code == 0
    assert output.splitlines()[-1] == "nothing is lost: 50 published = 50 handled"
    assert shop.ledger("--since", "1h")["queues"][0]["events"] == found["queues"][0]["events"]
    assert row(shop.ledger("--since", "1s"), PAYMENT)[0] <= 10


def test_what_waits_is_not_lost_and_what_was_purged_or_taken_by_others_is(shop: Shop, running: Runner) -> None:
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.run("stop", "payment")
    orders = shop.post(5)
    shop.settled({PAYMENT: (6, 1, 0, 0, 5, 0, 0)})

    connection = pika.BlockingConnection(pika.URLParameters(shop.vhost.url))
    channel = connection.channel()
    _, properties, _ = channel.basic_get(PAYMENT, auto_ack=True)
    connection.close()
    code, output, _ = shop.command("ledger")
    assert code == 1
    lines = output.splitlines()
    assert f"  {properties.message_id}  order.created  order {orders[0]}" in lines
    assert any(line.startswith(f"queue {PAYMENT}: 1 of 5 that are missing are lost") for line in lines)
    assert lines[-1] == "1 lost: 20 published = 15 handled + 4 waiting + 1 lost"

    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/{PAYMENT}/contents")
    found = shop.ledger(code=1)
    assert row(found, PAYMENT) == (6, 1, 0, 0, 0, 5, 0)
    assert orders_lost(found, PAYMENT) == sorted(orders)
    assert found["settled"]

    # Those that are lost stay so, and those that come later are told from them.
    shop.run("start", "payment")
    shop.post(2)
    assert row(shop.ledger(code=1), PAYMENT) == (8, 3, 0, 0, 0, 5, 0)


def test_parked_and_discarded_messages_are_accounted_for_and_a_purged_dead_letter_is_lost(
    shop: Shop, running: Runner
) -> None:
    shop.settled({PAYMENT: (1, 1, 0, 0, 0, 0, 0)})
    shop.project.options("payment", timeout_rate=1.0)
    shop.run("reload")
    orders = shop.post(3)
    shop.settled({PAYMENT: (4, 1, 3, 0, 0, 0, 0)})
    shop.run("dlq", "discard", "--id", orders[0], "--yes")
    shop.settled({PAYMENT: (4, 1, 2, 1, 0, 0, 0)})
    _, story, _ = shop.command("order", "show", orders[0])
    assert f"order.created discarded by a person from {PAYMENT}.dlq" in story
    assert story.startswith(f"order {orders[0]}: failed")
    assert "still parked" not in story

    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/{PAYMENT}.dlq/contents")
    found = shop.ledger(code=1)
    assert row(found, PAYMENT) == (4, 1, 0, 1, 0, 2, 0)
    assert orders_lost(found, PAYMENT) == sorted(orders[1:])


def test_nothing_is_discarded_that_cannot_be_noted(shop: Shop, running: Runner) -> None:
    shop.project.options("payment", timeout_rate=1.0)
    shop.run("reload")
    (order,) = shop.post(1)
    wait_until(lambda: len(shop.vhost.messages(f"{PAYMENT}.dlq")) == 1, 20)
    shop.run("stop", "audit")
    shop.vhost.delete_queue("audit.events")
    code, _, errors = shop.command("dlq", "discard", "--id", order, "--yes")
    assert code == 75
    assert "trace: not noted, so nothing is discarded, queue 'audit.events': it is not there" in errors
    assert len(shop.vhost.messages(f"{PAYMENT}.dlq")) == 1
    assert not [*(shop.project.folder / "var").glob("discarded-*")]


def test_what_is_handled_twice_is_shown_and_with_an_inbox_it_is_a_failure(shop: Shop, running: Runner) -> None:
    def publish_twice(id: str, order: str) -> None:
        body = {"order_id": order, "customer_email": "a@example.com", "amount": "9.99", "currency": "EUR"}
        properties = {"message_id": id, "type": "order.created", "correlation_id": order}
        message = {
            "routing_key": "order.created", "payload": json.dumps(body), "payload_encoding": "string",
            "properties": {**properties, "content_type": "application/json"},
        }  # fmt: skip
        for _ in range(2):
            path = f"/exchanges/{shop.vhost.name}/orders.topic/publish"
            assert shop.vhost.rabbit.api("POST", path, message)["routed"]

    publish_twice("event-1", "o1")
    found = shop.settled({PAYMENT: (2, 2, 0, 0, 0, 0, 1), PAID: (2, 2, 0, 0, 0, 0, 1)})
    assert of_queue(found, PAYMENT)["twice"] == [{"id": "event-1", "order_id": "o1", "type": "order.created"}]

    config = shop.project.config()
    config["services"]["payment"]["inbox"] = True
    shop.project.set_config(config)
    shop.run("reload")
    publish_twice("event-2", "o2")
    shop.settled({PAYMENT: (3, 3, 0, 0, 0, 0, 1)})
    # As if it had not kept its promise.
    shop.execute(update(attempts).where(attempts.c.outcome == "duplicate").values(outcome="handled"))
    found = shop.ledger(code=1)
    assert row(found, PAYMENT) == (3, 3, 0, 0, 0, 0, 2)
    code, output, _ = shop.command("ledger")
    assert code == 1
    assert "1 handled twice in spite of an inbox" in output.splitlines()[-1]


@pytest.mark.timeout(180)
def test_under_load_nothing_is_ever_called_lost(shop: Shop, running: Runner) -> None:
    # Slower than orders come, so that most are in its hands, of which the statistics tell late.
    shop.project.options("payment", failure_rate=0.1, latency="80ms", timeout_rate=0.3)
    shop.run("reload")
    load, looks = Load(shop.project.port, 15, clients=8), 0
    try:
        end = time.monotonic() + 25
        while time.monotonic() < end:
            found = shop.ledger()
            assert found["lost"] == 0
            looks += 1
    finally:
        answers = load.stop()
    assert looks >= 3
    accepted = sum(one.status == 202 for one in answers) + 1

    def all_handled() -> bool:
        found = row(shop.ledger(), PAYMENT)
        return found[0] == accepted and found[1] + found[2] == accepted

    wait_until(all_handled, 90, "all orders are handled or parked")


def test_what_was_published_before_a_queue_was_there_does_not_count_for_it(shop: Shop, running: Runner) -> None:
    shop.post(3)
    shop.settled({PAYMENT: (4, 4, 0, 0, 0, 0, 0)})
    topology, config = shop.project.topology(), shop.project.config()
    topology["queues"]["counter.orders"] = {"bind": {"orders.topic": ["order.created.#"]}}
    config["services"]["counter"] = {"consumes": ["counter.orders"]}
    shop.project.plugin("counter", "from runner import hookimpl\n\n\n@hookimpl\ndef handle(message):\n    pass\n")
    shop.project.set_topology(topology)
    shop.project.set_config(config)
    shop.run("reload")
    running.pid_of("counter.1")
    assert row(shop.ledger(), "counter.orders") == (0,) * 7
    # Before it has handled anything, what is lost there is known to be.
    shop.run("stop", "counter")
    orders = shop.post(2)
    shop.settled({"counter.orders": (2, 0, 0, 0, 2, 0, 0)})
    shop.vhost.rabbit.api("DELETE", f"/queues/{shop.vhost.name}/counter.orders/contents")
    assert orders_lost(shop.ledger(code=1), "counter.orders") == sorted(orders)


def test_where_the_broker_does_not_remember_it_a_queue_counts_from_its_first_known_event_on(
    shop: Shop, running: Runner
) -> None:
    shop.post(2)
    shop.settled({PAYMENT: (3, 3, 0, 0, 0, 0, 0)})
    name = f"fastcommerce.{shop.vhost.name}"
    owned = shop.vhost.rabbit.api("GET", f"/global-parameters/{name}")
    del owned["value"]["since"]
    shop.vhost.rabbit.api("PUT", f"/global-parameters/{name}", owned)
    # Events that came before there was any queue but that of audit, and one that is lost now.
    about = {"type": "order.created", "exchange": "orders.topic", "routing_key": "order.created", "headers": {}}
    old = [{**about, "id": f"old-{n}", "order_id": "o", "published_at": n, "body": "{}"} for n in range(4)]
    shop.execute(insert(events).values(old))
    found = shop.ledger()
    assert row(found, PAYMENT) == (3, 3, 0, 0, 0, 0, 0)
    assert "4 more may have come here and are not counted" in of_queue(found, PAYMENT)["note"]
    now = int(time.time() * 1000)
    shop.execute(insert(events).values({**about, "id": "new", "order_id": "o", "published_at": now, "body": "{}"}))
    assert [one["id"] for one in of_queue(shop.ledger(code=1), PAYMENT)["lost"]] == ["new"]


def test_without_audit_it_says_how_to_turn_it_on(project: Project, vhost: Vhost) -> None:
    code, _, errors = Shop(project, vhost).command("ledger")
    assert code == 1
    assert "audit is off" in errors


def test_an_outbox_and_inboxes_prove_it_without_audit(project: Project, vhost: Vhost, database: str) -> None:
    config = project.config()
    config["store"] = {"url": database}
    for name in ("payment", "notification"):
        config["services"][name]["inbox"] = True
    config["services"]["payment"]["options"] = {"failure_rate": 0.0, "latency": "1ms"}
    config["services"]["order_api"]["options"]["outbox"] = True
    project.set_config(config)
    shop = Shop(project, vhost)
    runner = project.run(url=vhost.url)
    project.first_order()
    shop.post(3)
    shop.settled(dict.fromkeys((PAYMENT, MAIL, PAID), (4, 4, 0, 0, 0, 0, 0)))
    shop.run("stop", "payment")
    orders = shop.post(2)
    shop.settled({PAYMENT: (6, 4, 0, 0, 2, 0, 0)})
    vhost.rabbit.api("DELETE", f"/queues/{vhost.name}/{PAYMENT}/contents")
    assert orders_lost(shop.ledger(code=1), PAYMENT) == sorted(orders)
    assert runner.stop() == 0


def test_with_audit_but_no_trace_it_says_what_is_not_known(shop: Shop) -> None:
    config = shop.project.config()
    del config["trace"]
    shop.project.set_config(config)
    runner = shop.project.run(url=shop.vhost.url)
    shop.project.first_order()
    wait_until(lambda: row(shop.ledger(), "audit.events") == (2, 2, 0, 0, 0, 0, 0), 30)
    one = of_queue(shop.ledger(), PAYMENT)
    assert [(one["published"], one["handled"], one["waiting"], one["lost"]) for one in one["events"]] == [
        (1, None, None, 0)
    ]
    assert one["note"].startswith("what was handled is not known: trace, or inbox: true for payment, makes it known")
    assert runner.stop() == 0
