"""The history of an order, from the command and from the API. Without audit there is none."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, select

from plugins.order_api.order import Order, order_id_for
from plugins.payment import Gateway
from plugins.payment import Options as PaymentOptions
from runner.history.tables import attempts, events
from runner.store.database import open_database
from runner.strict_json import decode_json
from tests.audited import turn_on
from tests.postgres import Postgres
from tests.proof import DATABASES
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ALICE, Project, Runner

RATE = 0.5


#: Numbers of the orders of all tests, because some tests share a database.
NUMBERS = count()


def order_that_times_out(*times: bool) -> str:
    """Return the key of a new order whose attempts time out or succeed in exactly this order."""
    gateway = Gateway(PaymentOptions(timeout_rate=RATE), logging.getLogger())
    order = Order.model_validate(decode_json(json.dumps(ALICE).encode()))

    def is_so(key: str) -> bool:
        id = order_id_for(key, order)
        return all((gateway._draw("timeout", id, one + 1) < RATE) is value for one, value in enumerate(times))

    return next(key for number in NUMBERS if is_so(key := f"key-{number}"))


def place(project: Project, key: str) -> str:
    def accepted() -> str | None:
        status, body = project.post(None, 10, **{"Idempotency-Key": key})
        return str(body["order_id"]) if status == 202 else None

    return str(wait_until(accepted, 30, "the order is accepted"))


def asked(project: Project, order: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{project.port}/orders/{order}", timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def shown(project: Project, vhost: Vhost, *arguments: str) -> str:
    code, output = project.call("order", "history", *arguments, url=vhost.url)
    assert code == 0, output
    return output


def complete(project: Project, order: str, entries: int) -> Any:
    """Return the order's history, once it is complete."""

    def found() -> Any:
        status, body = asked(project, order)
        return body if status == 200 and len(body["history"]) >= entries else None

    return wait_until(found, 30, f"a history of {entries} entries")


def attempts_of(history: Any, service: str) -> list[tuple[str, int]]:
    return [
        (one["kind"], one["attempt"]) for one in history["history"] if one.get("attempt") and one["service"] == service
    ]


@dataclass(frozen=True)
class SlowPayment:
    """A runner with audit, half of whose payments time out."""

    project: Project
    vhost: Vhost
    runner: Runner
    database: str


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def slow_payment(
    request: pytest.FixtureRequest, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlowPayment]:
    """Run the services for the tests that leave them unchanged."""
    name, folder = f"test_{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("story")
    database = f"sqlite:///{folder}/shop.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.make_database(name)
    vhost, project = rabbit.make_vhost(name), Project(folder / "project")
    turn_on(project, database)
    topology = project.topology()
    topology["queues"]["payment.order.created"]["retry"] = ["100ms", "200ms"]
    project.set_topology(topology)
    project.options("payment", timeout_rate=RATE, failure_rate=0.0)
    runner = project.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    yield SlowPayment(project, vhost, runner, database)
    code = runner.process.poll() or runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


#: These tests share one runner for each database, so they run in one process.
shared = pytest.mark.xdist_group("a shop with slow payments")


@shared
def test_the_order_history_is_complete_in_order_and_the_same_everywhere(slow_payment: SlowPayment) -> None:
    project, vhost = slow_payment.project, slow_payment.vhost
    retried = place(project, order_that_times_out(True, False))
    dead_letter = place(project, order_that_times_out(True, True, True))

    # The first order needs two attempts and has six entries. The other fails three attempts and has five.
    history, failed = complete(project, retried, 6), complete(project, dead_letter, 5)
    assert history["status"] == "paid"
    assert attempts_of(history, "payment") == [("retried", 1), ("handled", 2)]
    kinds = [(one["kind"], one["type"], one["service"]) for one in history["history"]]
    assert kinds[0] == ("published", "order.created", "order_api")
    paid = ("published", "payment.success", "payment")
    assert kinds[kinds.index(paid) - 1] == ("handled", "order.created", "payment")
    assert kinds[-1] == ("handled", "payment.success", "notification")
    second = next(one for one in history["history"] if one.get("attempt") == 2)
    assert 0.1 <= second["waited"] < 10
    assert 0.04 <= second["took"] < 5

    assert failed["status"] == "failed"
    assert attempts_of(failed, "payment") == [("retried", 1), ("retried", 2), ("dead_lettered", 3)]
    assert "gateway timed out" in failed["history"][-1]["error"]

    for order, answer in ((retried, history), (dead_letter, failed)):
        printed = json.loads(shown(project, vhost, order, "--json"))
        assert {name: printed[name] for name in answer} == answer
        text = shown(project, vhost, order[:13])
        places = [text.index(one["what"]) for one in answer["history"]]
        assert places == sorted(places)
    assert "still dead-lettered: order.created of payment.order.created" in shown(project, vhost, dead_letter)


@shared
@pytest.mark.parametrize("slow_payment", DATABASES, indirect=True)
def test_a_replay_is_listed_between_the_attempts(slow_payment: SlowPayment) -> None:
    project, vhost = slow_payment.project, slow_payment.vhost
    order = place(project, order_that_times_out(True, True, True))
    complete(project, order, 5)

    def dead_letters() -> list[Any]:
        all_dead_letters = vhost.messages("payment.order.created.dlq")
        return [one for one in all_dead_letters if one["properties"]["correlation_id"] == order]

    (dead_letter,) = wait_until(dead_letters, 20)
    now = int(time.time() * 1000)
    headers = {"x-replays": 1, "x-replayed-at": now, "x-sent-at": now, "x-attempt": 1}
    copy = {
        "routing_key": "payment.order.created",
        "payload": dead_letter["payload"],
        "payload_encoding": "string",
        "properties": {**dead_letter["properties"], "headers": headers},
    }
    with payments_in_time(slow_payment):
        vhost.rabbit.api("POST", f"/exchanges/{vhost.name}/amq.default/publish", copy)
        history = complete(project, order, 9)
    assert history["status"] == "paid"
    payment = [one for one in history["history"] if one.get("queue") == "payment.order.created"]
    assert [one["kind"] for one in payment] == ["retried", "retried", "dead_lettered", "replayed", "handled"]
    assert payment[3]["what"] == "order.created replayed to payment.order.created"
    assert "dead_lettered" not in shown(project, vhost, order).splitlines()[-2]


@contextmanager
def payments_in_time(shop: SlowPayment) -> Iterator[None]:
    """Reload payment so that no payment times out during the block."""

    def reload(rate: float) -> None:
        shop.project.options("payment", timeout_rate=rate)
        code, output = shop.project.call("reload", url=shop.vhost.url)
        assert code == 0, output

    reload(0.0)
    try:
        yield
    finally:
        reload(RATE)


@shared
def test_an_event_that_is_delivered_twice_is_one_row(slow_payment: SlowPayment) -> None:
    project, vhost, runner = slow_payment.project, slow_payment.vhost, slow_payment.runner
    key = order_that_times_out(False)
    order = place(project, key)
    assert place(project, key) == order
    complete(project, order, 5)
    copies = [
        {"type": "order.twice", "message_id": "same", "correlation_id": order},
        {"type": "order.twice", "message_id": "same", "correlation_id": order},
        {"type": "order.last", "message_id": "last", "correlation_id": order},
    ]
    for properties in copies:
        about = {"payload": "{}", "payload_encoding": "string", "properties": properties}
        message = {"routing_key": properties["type"], **about}
        path = f"/exchanges/{vhost.name}/orders.topic/publish"
        assert vhost.rabbit.api("POST", path, message)["routed"]
    runner.wait_for(f"order {order}: received from payment.order.created", count=2)
    complete(project, order, 10)
    # The last event belongs to the order, but adds no entry to its history.
    wait_until(lambda: not vhost.queues()["audit.events"].get("messages", 1), 20, "audit has handled all messages")
    engine = open_database(slow_payment.database, project.folder)
    with engine.connect() as connection:
        of_order = select(events.c.type).where(events.c.order_id == order).order_by(events.c.type)
        assert [*connection.scalars(of_order)] == ["order.created", "order.last", "order.twice", "payment.success"]
        tried = select(func.count()).select_from(attempts).where(attempts.c.order_id == order)
        assert connection.scalar(tried) == 6, "each delivery was handled and is recorded"
    engine.dispose()


@shared
@pytest.mark.parametrize("slow_payment", DATABASES, indirect=True)
def test_a_malformed_note_is_dead_lettered_with_the_reason_and_delays_no_other_note(slow_payment: SlowPayment) -> None:
    project, vhost, runner = slow_payment.project, slow_payment.vhost, slow_payment.runner
    note = {"type": "runner.attempt", "message_id": "n1"}
    message = {"routing_key": "audit.events", "payload": "{}", "payload_encoding": "string", "properties": note}
    assert vhost.rabbit.api("POST", f"/exchanges/{vhost.name}/amq.default/publish", message)["routed"]
    runner.wait_for(
        "attempt 1 of 4 failed, message n1: not an attempt report: order_id: .*: dead-lettered to audit.events.dlq"
    )
    complete(project, place(project, order_that_times_out(False)), 5)


def test_without_audit_the_api_explains_how_to_turn_it_on(project: Project, vhost: Vhost) -> None:
    runner = project.run("run", "order_api", url=vhost.url)
    status, problem = asked(project, project.first_order())
    assert status == 501
    assert "audit is off" in problem["detail"]
    assert not (project.folder / "var" / "fastcommerce.db").exists()
    assert runner.stop() == 0


def test_the_history_is_a_503_while_the_database_is_unreachable_and_is_available_without_a_runner(
    project: Project, vhost: Vhost
) -> None:
    server = Postgres()
    try:
        turn_on(project, server.make_database("shop"))
        runner = project.run("run", "order_api", "audit", url=vhost.url)
        order = project.first_order()
        history = complete(project, order, 1)
        server.stop()
        status, problem = asked(project, order)
        assert status == 503
        assert "the database is unreachable" in problem["detail"]
        server.start()
        wait_until(lambda: asked(project, order)[0] == 200, 20, "the database is back")
        assert runner.stop() == 0
        assert json.loads(shown(project, vhost, order, "--json"))["history"] == history["history"]
    finally:
        server.close()
