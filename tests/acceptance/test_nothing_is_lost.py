"""Orders during kills of workers and a restart of the broker."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.machine import in_time
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner, workers_killed

ORDERS = times(200, 1000)
#: Seconds between two orders of a client. All orders together take longer than five kills.
PAUSE = times(120, 35) / 1000


def is_settled(order: str, output: str) -> bool:
    """Return True if an order was paid and both of its e-mails were written."""
    return (
        f"order {order}: approved" in output
        and f"We have your order {order}" in output
        and f"Your order {order} is paid" in output
    )


def wait_settled(runner: Runner, orders: set[str], timeout: float) -> None:
    """Wait until all orders are settled, and check only unsettled orders again."""
    left = set(orders)
    deadline = time.monotonic() + timeout
    while left and time.monotonic() < deadline:
        output = runner.output
        left = {order for order in left if not is_settled(order, output)}
        time.sleep(0.2)
    assert not left, f"{len(left)} of {len(orders)} orders are not settled, such as {sorted(left)[:3]}"


@pytest.mark.timeout(240)
def test_orders_are_paid_and_reported_while_the_payment_worker_is_killed_every_second(
    project: Project, vhost: Vhost
) -> None:
    project.options("payment", failure_rate=0.0, latency="5ms")
    topology = project.topology()
    topology["queues"]["seen"] = {"bind": {"payments.topic": ["#"]}}
    project.set_topology(topology)
    runner = project.run(url=vhost.url)
    orders = {project.first_order()}

    def approved() -> int:
        """Return the number of paid orders, in tens."""
        return runner.output.count(": approved") // 10

    def post(_: int) -> str:
        status, body = project.post()
        assert status == 202
        # The pauses spread the orders, so that each kill meets some of them.
        threading.Event().wait(PAUSE)
        return str(body["order_id"])

    with workers_killed(runner, 1.0, "payment.1", approved) as killed, ThreadPoolExecutor(3) as clients:
        orders.update(clients.map(post, range(ORDERS - 1)))
        assert len(orders) == ORDERS
        while len(killed) < 5:  # a busy machine starts workers slowly
            orders.update(clients.map(post, range(30)))
        wait_settled(runner, orders, 120)
    # A payment's event may be published twice, but then both copies are the same event.
    seen = [one["properties"] for one in vhost.messages("seen", 5000)]
    assert {one["correlation_id"] for one in seen} == orders
    assert len({one["message_id"] for one in seen}) == len(orders)
    assert vhost.messages("payment.order.created.dlq") == []
    assert runner.stop() == 0


@pytest.mark.timeout(180)
def test_with_the_broker_unreachable_for_10_s_every_order_with_202_is_paid_and_the_others_get_503(
    project: Project, mortal: Vhost
) -> None:
    config = project.config()
    config["broker"]["autostart"] = False
    project.set_config(config)
    project.options("payment", failure_rate=0.0)
    runner = project.run(url=mortal.url)
    accepted = {project.first_order()}
    statuses: list[int] = []
    slowest = 0.0
    stop = threading.Event()

    def load() -> None:
        nonlocal slowest
        while not stop.wait(times(200, 100) / 1000):
            started = time.monotonic()
            status, body = project.post(timeout=15)
            slowest = max(slowest, time.monotonic() - started)
            statuses.append(status)
            if status == 202:
                accepted.add(body["order_id"])

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(statuses) >= times(20, 40), 20)
        mortal.rabbit.stop()
        away = time.monotonic()
        wait_until(lambda: time.monotonic() - away >= 10.0, 15)
        mortal.rabbit.start()
        back = len(statuses)
        wait_until(lambda: statuses[back:].count(202) >= times(20, 60), 30, "orders are accepted again")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {202, 503}
    assert statuses.count(503) >= times(20, 50)
    assert slowest < in_time(7)
    wait_settled(runner, accepted, 60)
    assert "FATAL" not in runner.output
    assert runner.stop() == 0
