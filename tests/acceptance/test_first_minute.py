"""A newcomer's first minute: ``python -m runner`` on a real private RabbitMQ, and the README's first order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.chaos.proxy import Proxy
from tests.machine import in_time
from tests.rabbit import Vhost, wait_until
from tests.running import PRINTED, Project


def gone(pid: int) -> bool:
    """Return True if a process has exited. An orphan's exit code is left to its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_first_202_comes_within_2_s_and_orders_survive_a_lost_worker_or_queue(
    shipped: Project, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A user's environment does not contain this variable.
    monkeypatch.delenv("FASTCOMMERCE_SETTLE")
    shipped.options("payment", failure_rate=0.0)
    runner = shipped.run(url=vhost.url)
    order = shipped.first_order()
    took = [time.monotonic() - runner.started]
    for count in (1, 2, 3):
        runner.wait_for(f"order_api.1 .*order {order} accepted: 149.99 USD for alice@example.com")
        runner.wait_for(f"payment.1 .*order {order}: received from payment.order.created")
        runner.wait_for(f"payment.1 .*order {order}: approved")
        runner.wait_for(f"notification.1 .*e-mail to alice@example.com: We have your order {order}")
        runner.wait_for(f"notification.1 .*e-mail to alice@example.com: Your order {order} is paid")
        if count == 1:
            os.kill(runner.pid_of("payment.1"), signal.SIGKILL)
            runner.wait_for("payment.1 killed by SIGKILL: restarting now")
            runner.pid_of("payment.1", count=2)
            order = shipped.first_order()
        elif count == 2:
            # The queue is declared and consumed again.
            vhost.delete_queue("payment.order.created")
            runner.wait_for("declaring the topology again")
            runner.pid_of("payment.1", count=3)
            order = shipped.first_order()
    children = runner.children()
    started = time.monotonic()
    assert runner.stop(signal.SIGINT) == 0
    assert time.monotonic() - started < 10
    assert all(gone(pid) for pid in children)
    # The best of several runs counts, because other tests share the machine's cores.
    while min(took) >= in_time(2.0):
        assert len(took) < 3, took
        runner = shipped.run(url=vhost.url)
        shipped.first_order()
        took.append(time.monotonic() - runner.started)
        assert runner.stop() == 0


@pytest.fixture
def link(vhost: Vhost) -> Iterator[Proxy]:
    """Yield a proxy before the test's broker that can be cut."""
    one = Proxy([("127.0.0.1", int(urlsplit(vhost.url).port or 0))])
    yield one
    one.close()


def test_an_order_is_refused_while_the_broker_blocks_or_is_unreachable_and_accepted_afterwards(
    project: Project, vhost: Vhost, link: Proxy
) -> None:
    rabbit = vhost.rabbit
    project.options("payment", failure_rate=0.0)
    config = project.config()
    config["broker"]["autostart"] = False
    project.set_config(config)
    runner = project.run(url=f"amqp://guest:guest@127.0.0.1:{link.ports[0]}/{vhost.name}")
    project.first_order()
    # A broker that is short of disk space blocks publishers, but reports that only after a publish.
    rabbit.rabbitmqctl("set_disk_free_limit", "900000GB")
    try:
        for _ in range(2):
            started = time.monotonic()
            status, problem = project.post()
            assert status == 503
            assert "the broker is blocking publishers" in problem["detail"]
            assert time.monotonic() - started < in_time(1)
    finally:
        # Other tests use this broker too.
        rabbit.rabbitmqctl("set_disk_free_limit", "1MB")
    project.first_order()
    link.cut(60)
    started = time.monotonic()
    status, problem = wait_until(lambda: (answer := project.post())[0] == 503 and answer, 10)
    assert time.monotonic() - started < 10
    assert status == 503
    assert problem["status"] == 503
    link.heal()
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid", 30)
    assert runner.stop() == 0


@contextlib.contextmanager
def closing_listener() -> Iterator[int]:
    """Yield a port whose listener closes each connection, like a proxy whose broker is down."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]

    def close_each() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    thread = threading.Thread(target=close_each, daemon=True)
    thread.start()
    yield port
    # Closing alone would not end accept(2).
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.mark.parametrize("autostart", [True, False])
def test_a_start_behind_a_proxy_whose_broker_is_down_waits_for_the_broker(
    project: Project, vhost: Vhost, autostart: bool
) -> None:
    project.options("payment", failure_rate=0.0)
    config = project.config()
    config["broker"]["autostart"] = autostart
    project.set_config(config)
    with closing_listener() as port:
        runner = project.run(url=f"amqp://guest:guest@127.0.0.1:{port}/{vhost.name}")
        runner.wait_for(rf"no broker answers at 127.0.0.1:{port} \(the connection was closed without an answer\)")
    back = Proxy([("127.0.0.1", int(urlsplit(vhost.url).port or 0))], [port])
    with contextlib.closing(back):
        order = project.first_order(60)
        runner.wait_for(f"Your order {order} is paid", 30)
        assert runner.stop() == 0


def test_a_second_runner_in_a_folder_is_refused_and_a_killed_runner_leaves_no_process(
    project: Project, vhost: Vhost
) -> None:
    runner = project.run(url=vhost.url)
    project.first_order()
    second = project.run(url=vhost.url)
    assert second.process.wait(15) == 1
    second.wait_for(
        f"a supervisor is already running in this folder, pid {runner.process.pid}; stop it with: {PRINTED} down"
    )
    assert project.post()[0] == 202
    children = runner.children()
    assert len(children) >= 4
    runner.process.kill()
    wait_until(lambda: all(gone(pid) for pid in children), in_time(3), "all children are gone")


def test_a_topology_that_the_broker_refuses_stops_the_start_with_the_line_and_both_values(
    project: Project, vhost: Vhost
) -> None:
    assert project.call("apply", url=vhost.url)[0] == 0
    topology = project.topology()
    topology["queues"]["notification.order.events"]["type"] = "classic"
    project.set_topology(topology)
    lines = (project.folder / "topology.yaml").read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if text.strip() == "notification.order.events:")
    runner = project.run(url=vhost.url)
    assert runner.process.wait(15) == 78
    runner.wait_for(
        f"topology.yaml:{line}: queue 'notification.order.events': type is 'classic' here, but 'quorum' on the broker;"
        f" change it back, or: {PRINTED} apply --replace notification.order.events --drain"
    )
    assert "RUNNING" not in runner.output
