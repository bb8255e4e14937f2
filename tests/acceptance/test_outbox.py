"""With an outbox orders are accepted while the broker is unreachable. None is lost or charged twice."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from plugins.order_api.order import Order, created_event
from plugins.order_api.order_outbox import OrderOutbox
from runner import Context, Event
from runner.http import Problem
from runner.store.outbox import EventOutbox
from runner.store.process_store import Store
from runner.store.schema import outbox
from tests.chaos.proxy import Proxy
from tests.keeping import CHARGES, EMAILS, make_tables
from tests.proof import DATABASES, IS_FULL, times
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ALICE, Project, Runner

AWAY = times(3, 20)
#: The orders for each killed worker, and the number of kills.
ORDERS, KILLS = times(40, 60), times(3, 4)


def configure(project: Project, url: str, **options: Any) -> None:
    """Give the order API an outbox, and the other services an inbox."""
    config = project.config()
    config["store"] = {"url": url}
    config["broker"]["autostart"] = False
    config["services"]["order_api"]["options"] |= {"outbox": True, **options}
    config["services"]["payment"] |= {"inbox": True, "options": {"failure_rate": 0.0, "latency": "1ms"}}
    config["services"]["notification"] |= {"inbox": True}
    project.set_config(config)


class Orders:
    """A client that posts orders at a steady rate until it is stopped."""

    def __init__(self, project: Project, rate: float) -> None:
        self.statuses: list[int] = []
        self.accepted: set[str] = set()
        self._project, self._pause = project, 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self._pause
            status, body = self._project.post()
            self.statuses.append(status)
            if status == 202:
                self.accepted.add(body["order_id"])

    def stop(self) -> set[str]:
        self._stop.set()
        self._thread.join()
        return self.accepted


def wait_settled(store: Store, accepted: set[str]) -> None:
    """Wait until each order was charged once, and its e-mails were sent."""

    def e_mailed(kind: str) -> set[str]:
        return {one.order_id for one in store.read(select(EMAILS.c.order_id).where(EMAILS.c.type == kind))}

    wait_until(lambda: accepted <= e_mailed("payment.success"), 60, "all are paid and reported")
    assert accepted <= e_mailed("order.created")
    assert accepted <= {one.order_id for one in store.read(select(CHARGES.c.order_id))}


def ready(project: Project) -> Any:
    """Return the order API's answer to a readiness probe."""
    with urllib.request.urlopen(f"http://127.0.0.1:{project.port}/readyz", timeout=10) as answer:
        return json.loads(answer.read())


class Outage:
    """A broker that can be unreachable for a while. In full it is killed, in short all connections are cut."""

    def __init__(self, vhost: Vhost) -> None:
        self._vhost = vhost
        self._proxy = None if IS_FULL else Proxy([("127.0.0.1", int(urlsplit(vhost.url).port or 0))])
        port = urlsplit(vhost.url).port if self._proxy is None else self._proxy.ports[0]
        self.url = vhost.url.replace(f":{urlsplit(vhost.url).port}/", f":{port}/")

    def begin(self) -> None:
        if self._proxy is None:
            self._vhost.rabbit.kill()
        else:
            self._proxy.cut(3600)

    def end(self) -> None:
        if self._proxy is None:
            self._vhost.rabbit.start()
        else:
            self._proxy.heal()

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.close()


@pytest.fixture
def outage(request: pytest.FixtureRequest) -> Iterator[Outage]:
    one = Outage(request.getfixturevalue("mortal" if IS_FULL else "vhost"))
    yield one
    one.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_while_the_broker_is_unreachable_every_order_gets_202_and_is_paid_and_reported_afterwards(
    project: Project, outage: Outage, database: str, tmp_path: Path
) -> None:
    configure(project, database)
    runner = project.run(url=outage.url)
    project.first_order()
    orders = Orders(project, 20)
    wait_until(lambda: len(orders.statuses) >= 20, 20)
    outage.begin()
    away = time.monotonic()
    runner.wait_for(r"order_api\.1 .*publisher: waiting for the broker")
    assert wait_until(lambda: ready(project)["waiting"], 20, "the outbox says how many wait")
    assert ready(project)["status"] == "ready"
    code, output = project.call("status", "order_api", url=outage.url)
    assert code == 0, output
    assert "cannot work" not in output
    wait_until(lambda: time.monotonic() > away + AWAY, AWAY + 5)
    during = len(orders.statuses)
    outage.end()
    wait_until(lambda: len(orders.statuses) >= during + 40, 30)
    accepted = orders.stop()
    assert set(orders.statuses) == {202}
    assert len(orders.statuses) >= 20 * AWAY * 0.8, "orders were posted all the time"
    store = make_tables(Store(database, tmp_path))
    wait_settled(store, accepted)
    print(f"{len(accepted)} orders, the broker away for {AWAY} s")
    left = select(func.count()).select_from(outbox).where(outbox.c.sent_at.is_(None))
    wait_until(lambda: store.read(left)[0][0] == 0, 10, "nothing waits in the outbox")
    assert ready(project) == {"status": "ready", "waiting": 0}
    store.close(5)
    assert runner.stop() == 0


def relaying(runner: Runner) -> list[int]:
    return [pid for pid, command in runner.children().items() if "runner.worker order_api" in command]


@pytest.mark.timeout(240)
def test_accepted_orders_survive_a_kill_of_the_process_that_accepted_them(
    project: Project, vhost: Vhost, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    configure(project, url)
    config = project.config()
    config["services"]["order_api"]["instances"] = 2
    project.set_config(config)
    runner = project.run(url=vhost.url)
    runner.pid_of("order_api.2")
    project.first_order()
    orders = Orders(project, 100)
    for kills in range(1, KILLS + 1):
        wait_until(lambda: len(orders.statuses) >= ORDERS * kills, 30)  # noqa: B023 - called at once
        for pid in relaying(runner)[:1]:
            os.kill(pid, signal.SIGKILL)
    total = ORDERS * (KILLS + 1)
    wait_until(lambda: len(orders.statuses) >= total, 30)
    accepted = orders.stop()
    assert len(accepted) >= total * 0.8
    store = make_tables(Store(url, tmp_path))
    wait_settled(store, accepted)
    charged = {one.order_id for one in store.read(select(CHARGES.c.order_id))}
    # An order without an answer may have been accepted too. No other order was charged.
    assert len(charged - accepted) <= len(orders.statuses) - len(accepted) + 1
    store.close(5)
    assert runner.stop() == 0


@dataclass(frozen=True)
class OutboxShop:
    """A runner whose order API has an outbox, and routes each order by its fields."""

    project: Project
    vhost: Vhost
    runner: Runner
    store: Store


@pytest.fixture(scope="module")
def shop(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutboxShop]:
    """Run only the order API for the tests that leave it unchanged."""
    vhost, folder = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("taking")
    project, url = Project(folder / "project"), f"sqlite:///{folder}/shop.db"
    configure(project, url)
    config, topology = project.config(), project.topology()
    config["services"]["order_api"]["publishes"] = {"orders.topic": ["order.created.{currency}.{region}"]}
    topology["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.usd.eu"]}}
    project.set_config(config)
    project.set_topology(topology)
    runner, store = project.run("run", "order_api", url=vhost.url), Store(url, folder)
    project.first_order()
    yield OutboxShop(project, vhost, runner, store)
    store.close(5)
    code = runner.process.poll() or runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("an order API with an outbox")


@shared
def test_a_repeated_key_gets_the_same_order_and_422_with_a_different_order(shop: OutboxShop) -> None:
    project, order = shop.project, {**ALICE, "region": "eu"}
    first = [project.post(order, 10, **{"Idempotency-Key": "k-1"}) for _ in range(3)]
    assert [status for status, _ in first] == [202, 202, 202]
    assert len({body["order_id"] for _, body in first}) == 1
    status, problem = project.post({**order, "amount": 1}, 10, **{"Idempotency-Key": "k-1"})
    assert status == 422
    assert problem["detail"] == "Idempotency-Key: already used for another order; send a new key with a new order"
    assert project.post({**order, "amount": 1}, 10, **{"Idempotency-Key": "k-2"})[0] == 202
    wait_until(lambda: ready(project)["waiting"] == 0, 20, "all are sent")
    sent = [one["properties"]["correlation_id"] for one in shop.vhost.messages("eu.orders")]
    assert sent.count(first[0][1]["order_id"]) == 1


@shared
def test_an_order_of_the_outbox_is_routed_by_its_fields(shop: OutboxShop) -> None:
    status, body = shop.project.post({**ALICE, "region": "eu"})
    assert status == 202
    _, other = shop.project.post({**ALICE, "region": "us"})
    wait_until(lambda: ready(shop.project)["waiting"] == 0, 20, "both are sent")
    sent = {one["properties"]["correlation_id"]: one["routing_key"] for one in shop.vhost.messages("eu.orders")}
    assert sent[body["order_id"]] == "order.created.usd.eu"
    assert other["order_id"] not in sent


def test_a_repeated_commit_after_a_lost_answer_stores_the_order_once(tmp_path: Path) -> None:
    context = Api(f"sqlite:///{tmp_path}/shop.db", tmp_path)
    api = OrderOutbox(cast("Context", context))
    order = Order.model_validate({"customer_email": "a@example.com", "amount": "1.00", "currency": "EUR"})
    other = Order.model_validate({"customer_email": "b@example.com", "amount": "2.00", "currency": "EUR"})
    api.accept(other, None, created_event(other, "other"))
    for _ in range(2):
        # The second call is the one of the store's thread if it lost the connection after the commit.
        api.accept(order, None, created_event(order, "mine"))
    with pytest.raises(Problem) as refused:
        api.accept(other, None, created_event(other, "mine"))
    assert refused.value.status == 422
    assert api.waiting() == 2
    context.outbox.stop(5)
    context.store.close(5)


class Api:
    """The part of a worker's context that an outbox needs, with an unreachable broker."""

    def __init__(self, url: str, folder: Path) -> None:
        self.store = make_tables(Store(url, folder))
        self.outbox = EventOutbox(
            self.store, "order_api", "order_api", self.routed, self.publish, lambda: "unreachable", logging.getLogger()
        )

    def publish(self, event: Event) -> Future[None]:
        raise AssertionError("nothing is relayed here")

    def routed(self, event: Event) -> Event:
        return event


@shared
def test_no_order_gets_202_while_the_database_is_locked(shop: OutboxShop) -> None:
    project = shop.project
    with shop.store.engine.begin():  # BEGIN IMMEDIATE locks out all other writers
        status, problem = project.post(timeout=20)
    assert status == 503
    assert "the database" in problem["detail"]
    assert problem["type"].endswith("StoreUnavailable")
    wait_until(lambda: project.post()[0] == 202, 20, "orders are accepted again")
