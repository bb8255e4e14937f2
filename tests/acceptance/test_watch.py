"""``run --watch``: what is saved takes effect, and whatever did not change runs on untouched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rabbit import Vhost, wait_until
from tests.running import PRINTED, Project, Runner


@pytest.fixture
def watched(project: Project, vhost: Vhost) -> Iterator[Runner]:
    project.options("payment", failure_rate=0.0)
    config = project.config()
    config["broker"]["management"] = vhost.rabbit.management
    project.set_config(config)
    runner = project.run("run", "--watch", url=vhost.url)
    runner.wait_for("everything is RUNNING")
    yield runner
    assert runner.stop() == 0


def test_a_new_queue_is_there_at_once_and_no_service_is_restarted(
    watched: Runner, project: Project, vhost: Vhost
) -> None:
    before = watched.children()
    topology = project.topology()
    topology["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.#"]}}
    project.set_topology(topology)
    watched.wait_for(r"topology: \+ queue    eu.orders")
    watched.wait_for(r"topology: \+ binding  orders.topic -\(order.created.#\)-> eu.orders")
    watched.wait_for("files taken over$")
    project.first_order()
    assert vhost.ready("eu.orders") == 1
    assert watched.children() == before


def test_only_the_service_that_changed_is_restarted_and_instances_come_and_go(
    watched: Runner, project: Project
) -> None:
    pids = {slot: watched.pid_of(slot) for slot in ("order_api.1", "payment.1", "notification.1")}
    project.options("payment", latency="1ms")
    watched.wait_for("payment.1: replacing it, the new one first")
    second = watched.pid_of("payment.1", count=2)
    watched.wait_for("payment.1 stopped, the old one")
    assert set(watched.children()) & set(pids.values()) == {pids["order_api.1"], pids["notification.1"]}
    config = project.config()
    config["services"]["payment"]["instances"] = 3
    project.set_config(config)
    third = {second, watched.pid_of("payment.2"), watched.pid_of("payment.3")}
    assert third <= set(watched.children())
    config["services"]["payment"]["instances"] = 1
    del config["services"]["notification"]
    project.set_config(config)
    watched.wait_for("payment.3 stopped")
    watched.wait_for("notification.1 stopped")
    wait_until(lambda: set(watched.children()) & third == {second}, 5)
    assert pids["order_api.1"] in watched.children()
    assert watched.output.count("payment.1: replacing") == 1
    config["services"]["audit"] = {"consumes": ["notification.order.events"]}
    project.set_config(config)
    watched.pid_of("audit.1")


def test_a_fault_keeps_everything_as_it_was_and_says_why(watched: Runner, project: Project, vhost: Vhost) -> None:
    before, text = watched.children(), (project.folder / "topology.yaml").read_text()
    (project.folder / "topology.yaml").write_text(text.replace("orders.topic:", "orders.topik:"))
    watched.wait_for(r"config.yaml:\d+: .*unknown exchange 'orders.topic'; did you mean 'orders.topik'\?")
    watched.wait_for("not taken over: everything runs on as it was")
    Path(project.folder / "topology.yaml").unlink()
    watched.wait_for("topology.yaml:1: no such file")
    (project.folder / "topology.yaml").write_text(text)
    watched.wait_for("files taken over$")
    project.first_order()
    assert watched.children() == before
    assert "orders.topik" not in vhost.exchanges()


def test_what_would_have_to_be_replaced_is_told_and_left_and_the_rest_is_done(
    watched: Runner, project: Project, vhost: Vhost
) -> None:
    topology = project.topology()
    topology["queues"]["unrouted.all"]["type"] = "classic"
    topology["queues"]["new"] = {}
    project.set_topology(topology)
    watched.wait_for(
        r"ERROR: topology.yaml:\d+: queue 'unrouted.all': type is 'classic' here, but 'quorum' on the broker;"
        f" change it back, or: {PRINTED} apply --replace unrouted.all --drain"
    )
    watched.wait_for("files taken over, but for what would have to be replaced")
    assert vhost.queues()["unrouted.all"]["type"] == "quorum"
    assert "new" in vhost.queues()


def test_an_edit_of_a_plugin_restarts_the_services_that_use_it(watched: Runner, project: Project) -> None:
    pids = {slot: watched.pid_of(slot) for slot in ("order_api.1", "payment.1", "notification.1")}
    path = project.folder / "plugins" / "payment.py"
    path.write_text(path.read_text() + "\n# another line\n")
    watched.pid_of("payment.1", count=2)
    assert {pids["order_api.1"], pids["notification.1"]} <= set(watched.children())
    path.write_text("def broken(:\n")
    watched.wait_for("not taken over: everything runs on")
    path.unlink()


def test_another_broker_is_not_taken_over(watched: Runner, project: Project) -> None:
    config = project.config()
    config["broker"]["start"] = "never"
    project.set_config(config)
    watched.wait_for("config.yaml:1: broker: is taken at the start; stop the runner and start it")
    watched.wait_for("not taken over: everything runs on as it was")
