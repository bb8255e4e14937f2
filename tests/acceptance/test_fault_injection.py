"""Fault injection in a running system. Each fault has the effect that it announces, and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runner.cli.main import main
from runner.faults.active import FaultFolder
from runner.supervisor.control.client import ask
from tests.ports import free_port
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project

pytestmark = pytest.mark.xdist_group("shop with faults")  # all tests of this module share a shop

ORDERS, MAILS = "payment.order.created", "notification.order.events"


def begin(project: Project, *arguments: str, url: str) -> subprocess.Popen[str]:
    """Start ``fault`` in a project."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "--project", str(project.folder), "fault", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "RABBITMQ_URL": url, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def call(project: Project, *arguments: str, url: str) -> tuple[int, str]:
    """Run ``fault`` in this process, which is faster than a new process. Return its exit code and output."""
    arguments = ("--project", str(project.folder), "fault", *arguments)
    done = CliRunner().invoke(main, arguments, env={"RABBITMQ_URL": url})
    return done.exit_code, done.stdout or done.stderr


class Shop:
    """The shipped services with ``fault_injection: true``."""

    def __init__(self, folder: Path, vhost: Vhost) -> None:
        self.project, self.vhost = Project(folder), vhost
        self.project.options("payment", failure_rate=0.0, latency="5ms")
        config = self.project.config()
        config["fault_injection"] = True
        config["services"]["notification"] |= {"inbox": True, "watchdog": "3s", "max_crashes": 2}
        self.project.set_config(config)
        self.runner = self.project.run(url=vhost.url, env={"PYTHONPATH": str(ROOT)})
        self.runner.wait_for("everything is RUNNING", 60)

    def fault(self, *arguments: str) -> Any:
        """Inject a fault, and return the JSON that the command prints."""
        code, output = call(self.project, *arguments, "--json", url=self.vhost.url)
        assert code == 0, output
        result = json.loads(output)
        assert result["fault"] == arguments[0]
        assert isinstance(result["expect"], list)
        assert result["look"]
        return result

    def slot(self, name: str) -> Any:
        """Return the status of a slot."""
        (found,) = ask(self.project.folder, "status", patience=10)
        return next(one for one in found["slots"] if one["slot"] == name)

    def settled(self, name: str) -> Any:
        """Wait until the slot is RUNNING without a problem, and return its status."""

        def look() -> Any:
            slot = self.slot(name)
            return slot if slot["state"] == "RUNNING" and not slot["problem"] else None

        return wait_until(look, 30, f"{name} is RUNNING")

    def order(self) -> str:
        """Post an order, and return its id."""
        status, body = self.project.post()
        assert status == 202, body
        return str(body["order_id"])

    def wait_paid(self, order: str) -> None:
        """Wait until the customer's e-mail about the paid order was sent."""
        self.runner.wait_for(f"Your order {order} is paid")


@pytest.fixture(scope="module")
def shop(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run a shop for all tests of this module. Each test leaves it unchanged."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    one = Shop(tmp_path_factory.mktemp("faults") / "project", vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    one.project.close()
    vhost.delete()
    assert code == 0
    # Files of active faults may still exist, and expire by themselves.
    left = {path.name for path in (one.project.folder / "var" / "faults").iterdir()}
    assert "runner" not in left, "no file names the stopped runner"


@pytest.fixture(autouse=True)
def _all_is_well(request: pytest.FixtureRequest) -> None:
    if "shop" in request.fixturenames:
        shop: Shop = request.getfixturevalue("shop")
        FaultFolder(shop.project.folder / "var").clear()
        for name in ("order_api.1", "payment.1", "notification.1"):
            shop.settled(name)


def state_of(pid: int) -> str:
    """Return a process's state, such as ``T`` for stopped (proc(5)), or an empty text if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_the_start_warns_about_enabled_fault_injection(shop: Shop) -> None:
    assert (
        len(re.findall(r"runner +\| WARNING: fault_injection: true: all users with write access", shop.runner.output))
        == 1
    )


def test_kill_kills_a_process_and_the_supervisor_replaces_it(shop: Shop) -> None:
    result = shop.fault("kill", "payment")
    assert result["target"] == "payment.1"
    assert state_of(result["pid"]) in ("Z", ""), "the process has exited"
    wait_until(lambda: shop.settled("payment.1")["pid"] != result["pid"], 10, "the new process is RUNNING")
    shop.runner.wait_for("payment.1 killed by SIGKILL: restarting")
    assert any("killed by SIGKILL: restarting" in one for one in result["expect"])
    shop.wait_paid(shop.order())


def test_a_process_survives_a_hang_shorter_than_its_watchdog(shop: Shop) -> None:
    result = shop.fault("pause", "payment.1", "4s")
    assert state_of(result["pid"]) == "T"
    assert any("payment.1 keeps its pid" in one for one in result["expect"])
    (active,) = shop.fault("list")["active"]
    assert (active["fault"], active["target"], active["until"]) == ("pause", "payment.1", result["until"])
    code, output = call(shop.project, "pause", "payment.1", "1h", url=shop.vhost.url)
    assert code == 1
    assert "payment.1: pause lasts until" in output
    order = shop.order()
    shop.wait_paid(order)
    assert shop.settled("payment.1")["pid"] == result["pid"]
    wait_until(lambda: shop.fault("list")["active"] == [])


def test_the_shortest_hang_ends_by_itself_and_clear_ends_the_longest(shop: Shop) -> None:
    pid = shop.slot("payment.1")["pid"]
    for _ in range(2):
        shop.fault("pause", "payment.1", "1ms")
        wait_until(lambda: state_of(pid) == "S", 10, "it continues")
        wait_until(lambda: shop.fault("list")["active"] == [])
    shop.fault("pause", "payment.1", "1h")
    assert [one["fault"] for one in shop.fault("clear")["ended"]] == ["pause"]
    wait_until(lambda: state_of(pid) == "S", 10, "it continues")
    shop.wait_paid(shop.order())


def test_a_process_is_killed_in_a_hang_longer_than_its_watchdog(shop: Shop) -> None:
    result = shop.fault("pause", "notification", "30s")
    assert any("the watchdog (3s) kills " in one for one in result["expect"])
    shop.runner.wait_for(r"notification.1 killed by SIG\w+, sent no watchdog ping for 3 s: restarting")
    assert shop.settled("notification.1")["pid"] != result["pid"]
    wait_until(lambda: shop.fault("list")["active"] == [], 10, "no client waits for it")


def test_a_hang_ends_even_if_its_command_is_killed(shop: Shop) -> None:
    pid = shop.slot("payment.1")["pid"]
    with begin(shop.project, "pause", "payment", "1s", url=shop.vhost.url) as command:
        wait_until(lambda: state_of(pid) == "T", 20, "it is stopped")
        command.kill()
        command.wait(10)
    wait_until(lambda: state_of(pid) == "S", 10, "it continues")
    assert shop.settled("payment.1")["pid"] == pid


def test_a_hang_ends_even_if_its_command_is_stopped(shop: Shop) -> None:
    pid = shop.slot("payment.1")["pid"]
    with begin(shop.project, "pause", "payment", "200ms", url=shop.vhost.url) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        deadline = time.monotonic() + 20
        while not (found := children.read_text().split()):
            assert time.monotonic() < deadline
            time.sleep(0.001)  # before the command continues
        command.send_signal(signal.SIGSTOP)
        releaser = int(found[0])
        wait_until(lambda: state_of(releaser) in ("Z", ""), 20, "the releasing process has exited")
        command.send_signal(signal.SIGCONT)
        assert command.wait(20) == 0
    wait_until(lambda: state_of(pid) == "S", 5, "it continues")


def test_slow_delays_handlers_until_it_ends(shop: Shop) -> None:
    def charged(order: str) -> None:
        shop.runner.wait_for(f"order {order}: (approved|card_declined|over_limit)")

    shop.fault("slow", "payment", "1s", "--for", "1h")
    began = time.monotonic()
    charged(shop.order())
    assert time.monotonic() - began >= 1
    result = shop.fault("slow", "payment", "60s", "--for", "1s")
    charged(shop.order())
    assert time.time() >= result["until"]
    assert shop.fault("list")["active"] == []
    shop.fault("slow", "payment", "60s", "--for", "1h")
    order = shop.order()
    assert [one["fault"] for one in shop.fault("clear")["ended"]] == ["slow"]
    shop.wait_paid(order)  # although the handler's delay had started already


def test_a_duplicate_is_handled_twice_and_with_an_inbox_once(shop: Shop) -> None:
    received = f"order {{}}: received from {ORDERS}"
    for queue, words, times in ((ORDERS, received, 2), (MAILS, "We have your order {}", 1)):
        with begin(shop.project, "duplicate", queue, "--count", "2", "--json", url=shop.vhost.url) as command:
            assert command.stderr is not None
            assert command.stderr.readline() == f"duplicating the next 2 messages routed to {queue}, for 10s at most\n"
            orders = [shop.order() for _ in range(3)]
            output, _ = command.communicate(timeout=30)
        result = json.loads(output)
        assert command.returncode == 0
        assert len(set(result["ids"])) == 2
        # The copies are behind the original messages, and before an order that is posted now.
        shop.wait_paid(last := shop.order())
        shop.runner.wait_for(f"We have your order {last}")
        found = [shop.runner.output.count(words.format(one)) for one in orders]
        assert found == [times, times, 1]


def test_a_duplicate_without_messages_ends_after_its_time(shop: Shop) -> None:
    assert shop.fault("duplicate", ORDERS, "--for", "300ms")["ids"] == []
    assert not [name for name in shop.vhost.queues() if name.startswith("amq.")]


def test_a_duplicate_ends_with_its_killed_command(shop: Shop) -> None:
    with begin(shop.project, "duplicate", ORDERS, "--for", "1h", url=shop.vhost.url) as command:
        assert command.stderr is not None
        command.stderr.readline()
        assert [one["fault"] for one in shop.fault("list")["active"]] == ["duplicate"]
        command.kill()
    assert shop.fault("list")["active"] == []


def test_a_poison_message_is_dead_lettered_with_the_reason_and_a_crashing_message_after_max_crashes(shop: Shop) -> None:
    def dead_letters(queue: str) -> dict[str, Any]:
        return {one["properties"]["message_id"]: one["properties"]["headers"] for one in shop.vhost.messages(queue)}

    result = shop.fault("poison", ORDERS, "--count", "2")
    deadly = shop.fault("poison", MAILS, "--kill")
    order = shop.order()
    wait_until(lambda: set(result["ids"]) <= set(dead_letters(result["dead_letter"])), 20, "both are dead-lettered")
    for identity in result["ids"]:
        headers = dead_letters(f"{ORDERS}.dlq")[identity]
        assert (headers["x-exception"], headers["x-attempt"]) == ("BadBody", 1)
        assert "cannot be decoded as JSON" in headers["x-last-error"]
    (killer,) = deadly["ids"]
    headers = wait_until(lambda: dead_letters(f"{MAILS}.dlq").get(killer), 60, "it is dead-lettered too")
    assert (headers["x-crashes"], headers["x-signal"]) == (2, "SIGSEGV")
    shop.runner.wait_for(f"killed by SIGSEGV while handling message {killer} of {MAILS}", count=2)
    shop.wait_paid(order)


def test_a_cut_makes_the_broker_unreachable_for_its_time(shop: Shop) -> None:
    before = shop.runner.output.count("the broker is back")
    pids = [shop.slot(name)["pid"] for name in ("payment.1", "order_api.1")]
    shop.fault("disconnect", "2s")
    wait_until(lambda: shop.project.post()[0] == 503, 10, "no order is accepted")
    shop.runner.wait_for("payment.1 +. WARNING: consumer: waiting for the broker, .*disconnected on purpose until")
    wait_until(lambda: shop.runner.output.count("the broker is back") >= before + 5, 20, "all are back")
    assert [shop.settled(name)["pid"] for name in ("payment.1", "order_api.1")] == pids
    shop.wait_paid(shop.order())


def test_a_cut_of_one_service_does_not_affect_the_others(shop: Shop) -> None:
    assert shop.fault("disconnect", "payment", "1h")["target"] == "payment"
    wait_until(lambda: shop.slot("payment.1")["problem"], 10)
    order = shop.order()
    shop.runner.wait_for(f"We have your order {order}")
    assert f"order {order}: received from payment.order.created" not in shop.runner.output
    assert [one["target"] for one in shop.fault("clear")["ended"]] == ["payment"]
    shop.wait_paid(order)


def test_a_broker_that_the_runner_did_not_start_is_left_alone(shop: Shop) -> None:
    code, output = call(shop.project, "broker-restart", url=shop.vhost.url)
    assert code == 1
    assert "was running before the supervisor started; allowed: the private RabbitMQ" in output


def test_an_unreachable_broker_exits_with_75(shop: Shop) -> None:
    code, output = call(shop.project, "poison", ORDERS, url=f"amqp://127.0.0.1:{free_port()}/")
    assert code == 75, output


def test_a_runner_that_was_started_without_fault_injection_is_left_alone(project: Project, vhost: Vhost) -> None:
    runner = project.run("run", "payment", url=vhost.url)
    runner.pid_of("payment.1")
    config = project.config()
    project.set_config({"fault_injection": True, **config})
    reload = CliRunner().invoke(main, ["--project", str(project.folder), "reload"])
    assert reload.exit_code == 1
    assert "config.yaml:1: fault_injection: changed, but a reload cannot apply this change" in reload.output
    for arguments in (["kill", "payment"], ["disconnect"], ["poison", ORDERS]):
        code, output = call(project, *arguments, url=vhost.url)
        assert code == 1
        assert "the supervisor was started without 'fault_injection: true'" in output
    code, output = call(project, "kill", "notification", url=vhost.url)
    assert code == 1
    assert runner.stop() == 0
