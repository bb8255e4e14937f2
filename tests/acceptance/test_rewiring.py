"""One save changes a service's events and their bindings. No order misses its queue meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.test_edits import MAIL, PAID, PAYMENT, Orders, Watched
from tests.acceptance.test_nothing_is_lost import wait_settled
from tests.rabbit import Vhost, wait_until
from tests.running import Project

OLD, NEW = "order.created", "order.created.*"


@pytest.fixture
def shop(project: Project, vhost: Vhost) -> Watched:
    project.options("payment", failure_rate=0.0, latency="1ms")
    write(project, {"orders.topic": ["order.created"]}, [OLD])
    config = project.config()
    config["services"]["order_api"]["instances"] = 2
    project.set_config(config)
    return Watched(project, vhost)


def write(project: Project, publishes: dict[str, Any], keys: list[str]) -> None:
    """Save both files together."""
    config, topology = project.config(), project.topology()
    config["services"]["order_api"]["publishes"] = publishes
    for name in (PAYMENT, MAIL):
        topology["queues"][name]["bind"] = {"orders.topic": keys}
    project.set_topology(topology)
    project.set_config(config)


def bound(vhost: Vhost) -> set[str]:
    """Return the routing keys that are bound to payment's queue."""
    return {one["routing_key"] for one in vhost.bindings() if one["destination"] == PAYMENT and one["source"]}


def test_old_bindings_remain_until_the_services_that_use_them_are_replaced(
    shop: Watched,
) -> None:
    project, runner, vhost = shop.project, shop.runner, shop.vhost
    orders = Orders(project)
    wait_until(lambda: len(orders.accepted) >= 5)
    write(project, {"orders.topic": ["order.created.{currency}"]}, [NEW])
    runner.wait_for("order_api.2: the old process stopped")
    wait_until(lambda: bound(vhost) == {NEW})
    runner.wait_for(r"topology: ~ binding  orders\.topic -\(order\.created\)-> payment\.order\.created")
    lines = runner.output
    removal = lines.index("topology: ~ binding  orders.topic -(order.created)-> payment.order.created")
    assert lines.index("topology: + binding  orders.topic -(order.created.*)-> payment.order.created") < removal
    for old in ("order_api.1: the old process stopped", "order_api.2: the old process stopped"):
        assert lines.index(old) < removal
    count = len(orders.accepted)
    wait_until(lambda: len(orders.accepted) >= count + 5)
    accepted = orders.stop()
    wait_settled(runner, accepted, 60)
    assert vhost.ready("unrouted.all") == 0
    # The way back, with a version that does not get ready. The bindings remain with the old services.
    path = project.folder / "plugins" / "order_api" / "__init__.py"
    good = path.read_text()
    path.write_text(good + "\n@hookimpl\ndef run(options, context):\n    raise RuntimeError('wrong version')\n")
    write(project, {"orders.topic": ["order.created"]}, [OLD])
    runner.wait_for(r"order_api.\d: the new process did not become ready")
    assert bound(vhost) == {OLD, NEW}
    # The bindings also survive a new declaration of the topology, and a failed restart.
    vhost.delete_queue(PAID)
    wait_until(lambda: PAID in vhost.queues())
    assert shop.command("restart", "order_api")[0] == 1, "the plugin is still wrong"
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    assert bound(vhost) == {OLD, NEW}
    path.write_text(good)
    runner.wait_for("order_api.2: the old process stopped", count=2)
    wait_until(lambda: bound(vhost) == {OLD})
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    assert shop.plan()["exit_code"] == 0
    assert runner.stop() == 0
