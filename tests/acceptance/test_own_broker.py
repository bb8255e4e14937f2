"""Commands on a project whose private broker is stopped. They start the broker while they run."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.test_first_minute import gone
from tests.amqp import channel_to
from tests.machine import in_time
from tests.ports import free_port
from tests.rabbit import wait_until
from tests.running import PRINTED, Project


@pytest.fixture
def taken_management_port() -> Iterator[int]:
    """Yield a free AMQP port whose management port belongs to another program that never answers."""
    port = next(one for one in iter(free_port, None) if one < 55_000)
    with socket.create_server(("127.0.0.1", port + 10_000)):
        yield port


@pytest.mark.timeout(180)
def test_a_private_broker_keeps_its_data_when_it_is_killed_stopped_or_started_for_a_command_that_replaces_a_queue(
    project: Project, taken_management_port: int
) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{taken_management_port}/"
    project.options("payment", failure_rate=0.0)
    config = project.config()
    config["fault_injection"] = True
    # Payment does not run, so the orders wait in its queue.
    payment = config["services"].pop("payment")
    project.set_config(config)
    runner = project.run(url=url)
    orders = {project.first_order(60)}
    assert time.monotonic() - runner.started < in_time(12)
    orders |= {project.first_order() for _ in range(2)}
    code, output = project.call("fault", "broker-restart", "--json", url=url)
    assert code == 0, output
    result = json.loads(output)
    assert result["seconds"] > 0
    assert gone(result["pid"])
    assert runner.pid_of("broker.1", count=2) != result["pid"]
    runner.wait_for("broker.1 killed by SIGKILL: restarting")
    orders.add(project.first_order(60))
    with channel_to(url) as channel:
        assert channel.queue_declare("payment.order.created", passive=True).method.message_count == 4
    started, children = time.monotonic(), runner.children()
    assert any("broker" in command for command in children.values())
    assert runner.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    assert all(gone(pid) for pid in children)
    config["services"]["payment"] = payment
    project.set_config(config)
    topology = project.topology()
    topology["queues"]["payment.order.created"]["type"] = "classic"
    project.set_topology(topology)
    runner = project.run(url=url)
    assert runner.process.wait(60) == 78
    runner.wait_for("this broker is private; to delete all its messages and the database in var/, run: ")
    runner.wait_for(f"or: {PRINTED} apply --replace payment.order.created --drain")
    # A separate process, which must start a broker itself.
    applied = project.run("apply", "--replace", "payment.order.created", "--drain", url=url)
    assert applied.process.wait(120) == 0, applied.output
    applied.wait_for("no broker answers; starting the private RabbitMQ on")
    applied.wait_for("queue payment.order.created: 4 messages in the new queue, 4 before")
    # The command locks the project's folder itself, so it must not find a runner to reload there.
    assert "the supervisor of this folder" not in applied.output
    runner = project.run(url=url)
    for order in orders:
        runner.wait_for(f"Your order {order} is paid")
    # The command uses the running broker and finds its HTTP API.
    assert project.call("plan", url=url) == (0, "nothing to do\n")
    assert runner.stop() == 0
    wait_until(lambda: not (project.folder / "var" / "broker" / "node.pid").exists(), 10)


@pytest.mark.parametrize("command", ["plan", "apply", "import live"])
def test_the_error_names_the_remedy_if_no_broker_may_be_started(project: Project, command: str) -> None:
    config = project.config()
    config["broker"] = {"url": "amqp://127.0.0.1:1/", "autostart": False}
    project.set_config(config)
    if "import" in command:
        # An import needs an empty topology.
        (project.folder / "topology.yaml").write_text("")
    code, output = project.call(*command.split())
    assert code == 75
    assert "broker.url: no broker answers at 127.0.0.1:1 (connection refused); start a broker" in output
