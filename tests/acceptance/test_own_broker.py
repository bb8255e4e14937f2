"""Commands on a project whose private broker is not running: they start it for as long as they take."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.rabbit import wait_until
from tests.reaper import MARK
from tests.running import PRINTED, Project


def command(project: Project, url: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=project.folder, capture_output=True, text=True, timeout=120, check=False,
        env={
            "PATH": os.environ["PATH"], "RABBITMQ_URL": url, "PYTHONPATH": str(Path(__file__).parents[2]),
            MARK: os.environ[MARK],
        },
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def taken_management_port() -> Iterator[int]:
    """Return a free AMQP port whose management port another program uses, which never answers."""
    port = next(one for one in iter(free_port, None) if one < 55_000)
    with socket.create_server(("127.0.0.1", port + 10_000)):
        yield port


@pytest.mark.timeout(180)
def test_the_private_broker_is_started_for_commands_that_replace_a_queue_or_import(
    project: Project, taken_management_port: int
) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{taken_management_port}/"
    project.options("payment", failure_rate=0.0)
    config = project.config()
    payment = config["services"].pop("payment")
    project.set_config(config)
    runner = project.run(url=url)
    orders = {project.first_order() for _ in range(3)}
    assert runner.stop() == 0
    config["services"]["payment"] = payment
    project.set_config(config)
    topology = project.topology()
    topology["queues"]["payment.order.created"]["type"] = "classic"
    project.set_topology(topology)
    runner = project.run(url=url)
    assert runner.process.wait(60) == 78
    runner.wait_for(f"or: {PRINTED} apply --replace payment.order.created --drain")
    code, output = command(project, url, "apply", "--replace", "payment.order.created", "--drain")
    assert code == 0, output
    assert "no broker answers: starting the project's own on" in output
    assert "queue payment.order.created: 3 messages in the new queue, 3 before" in output
    runner = project.run(url=url)
    for order in orders:
        runner.wait_for(f"Your order {order} is paid")
    # The broker that answers is used, and its HTTP API found.
    assert command(project, url, "plan") == (0, "nothing to do\n")
    assert runner.stop() == 0
    wait_until(lambda: not (project.folder / "var" / "broker" / "node.pid").exists(), 10)
    # It is started for an import too, before which topology.yaml is emptied.
    (project.folder / "topology.yaml").write_text("")
    code, output = command(project, url, "import", "live")
    assert code == 0
    assert "  payment.order.created:" in output


def test_where_none_may_be_started_it_is_said_what_to_do(project: Project) -> None:
    config = project.config()
    config["broker"] = {"url": "amqp://127.0.0.1:1/", "start": "never"}
    project.set_config(config)
    code, output = command(project, "", "plan")
    assert code == 75
    assert "broker.url: no broker answers at 127.0.0.1:1 (connection refused); start it" in output
