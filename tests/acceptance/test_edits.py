"""Edits of topology.yaml under ``run --watch`` with a steady stream of orders, none of which is lost."""

from __future__ import annotations

import copy
import json
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.test_nothing_is_lost import wait_settled
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner, plain

PAYMENT, MAIL, PAID = "payment.order.created", "notification.order.events", "notification.payment.events"
RATE = times(6, 20)
EDITS = int(os.environ.get("FASTCOMMERCE_EDITS") or times(2, 300))


class Orders:
    """A client that posts orders at a steady rate until it is stopped."""

    def __init__(self, project: Project) -> None:
        self._project, self._stopping = project, threading.Event()
        self.accepted: list[str] = []
        self.refused: list[tuple[int, Any]] = []
        self._due = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._post, daemon=True) for _ in range(8)]
        self._threads.append(threading.Thread(target=self._pace, daemon=True))
        for thread in self._threads:
            thread.start()

    def _pace(self) -> None:
        while not self._stopping.wait(1 / RATE):
            self._due.release()

    def _post(self) -> None:
        while not self._stopping.is_set():
            if not self._due.acquire(timeout=0.1):
                continue
            status, body = self._project.post()
            if status == 202:
                self.accepted.append(str(body["order_id"]))
            else:
                self.refused.append((status, body))

    def stop(self) -> set[str]:
        """Stop, and return the ids of the accepted orders."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)
        return set(self.accepted)


class Watched:
    """A running shop whose files are watched, and its commands."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        config = project.config()
        config["broker"] |= {"management": vhost.rabbit.management, "autostart": False}
        project.set_config(config)
        self.runner: Runner = project.run("run", "--watch", url=vhost.url)
        self.runner.wait_for("everything is RUNNING")

    def save(self, topology: dict[str, Any]) -> str:
        """Write topology.yaml, and return the log line about its reload."""
        count = self.runner.output.count("reloaded")
        self.project.set_topology(topology)
        return self.runner.wait_for("^.*reloaded.*$", count=count + 1)[0]

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command, and return its exit code and its output."""
        return self.project.call(*arguments, url=self.vhost.url)

    def plan(self) -> dict[str, Any]:
        """Return the output of ``plan --json``."""
        _, output = self.command("plan", "--json")
        found: dict[str, Any] = json.loads(output)
        return found

    def agree(self, *consumers: str) -> str:
        """Stop the consumers, apply all held-back changes, start the consumers again, and reload the files."""
        consumers = consumers or ("payment", "notification")
        replaced = [part for one in self.plan()["changes"] if one["mark"] == "!" for part in ("--replace", one["name"])]
        for service in consumers:
            assert self.command("stop", service)[0] == 0
        code, output = self.command("apply", *replaced, "--drain")
        assert code in (0, 3), output
        for service in consumers:
            assert self.command("start", service)[0] == 0
        assert self.command("reload")[0] == 0
        return output


@pytest.fixture
def shop(project: Project, vhost: Vhost) -> Watched:
    project.options("payment", failure_rate=0.0, latency="1ms")
    return Watched(project, vhost)


def test_a_queue_held_back_by_an_edit_still_gets_orders_and_its_service_runs_on_unchanged(shop: Watched) -> None:
    project, runner, vhost = shop.project, shop.runner, shop.vhost
    before, topology = runner.children(), project.topology()
    topology["queues"][PAYMENT] = {"type": "classic", "bind": {"orders.topic": ["order.#"]}, "retry": ["2s"]}
    assert shop.save(topology).endswith("files reloaded, except for the changes above")
    assert "+ binding  orders.topic -(order.#)-> payment.order.created; it waits for queue" in runner.output
    runner.wait_for("payment keeps running unchanged, because it uses the held-back queue 'payment.order.created'")
    bound = {one["routing_key"] for one in vhost.bindings() if one["destination"] == PAYMENT}
    assert bound == {"order.created.#"}
    assert "payment.order.created.retry.2s" not in vhost.queues()
    assert runner.children() == before
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    # A killed worker is restarted, because the reload accepted the held-back changes.
    os.kill(runner.pid_of("payment.1"), 9)
    runner.pid_of("payment.1", count=2)
    vhost.close_connections()
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    shop.agree("payment")
    assert {one["routing_key"] for one in vhost.bindings() if one["destination"] == PAYMENT} == {"order.#"}
    assert shop.plan()["exit_code"] == 0
    order = project.first_order()
    runner.wait_for(f"Your order {order} is paid")
    assert runner.stop() == 0


def test_a_held_back_service_starts_after_apply_or_apply_reports_the_reason_and_the_remedy(
    project: Project, vhost: Vhost
) -> None:
    config = project.config()
    del config["services"]["order_api"], config["services"]["payment"]
    project.set_config(config)
    shop = Watched(project, vhost)
    runner = shop.runner
    before = {runner.pid_of("notification.1")}
    config, topology = project.config(), project.topology()
    topology["queues"]["unrouted.all"]["type"] = "classic"
    # Attempts are off. To report them, the other services would have to restart.
    config["services"]["audit"] = {"consumes": ["unrouted.all"], "options": {"attempts": False}}
    project.set_topology(topology)
    project.set_config(config)
    runner.wait_for("audit is not started yet, because it uses the held-back queue 'unrouted.all'; for details, run: ")
    code, output = shop.command("apply")
    assert (code, "reloads the files" in output) == (3, False), "nothing was done"
    code, output = shop.command("apply", "--replace", "unrouted.all")
    assert code == 0
    assert "the supervisor of this folder reloads the files:" in output
    runner.pid_of("audit.1")
    assert before <= runner.children().keys(), "services that did not change run on"
    count = runner.output.count("files reloaded")
    code, output = shop.command("apply")
    assert (code, "reloads the files" in output) == (0, False)
    assert runner.output.count("files reloaded") == count
    # This setting is read only at the start.
    config["runner"] = {"on_fatal": "exit"}
    topology["queues"]["more"] = {"bind": {"orders.topic": ["#"]}}
    project.set_topology(topology)
    project.set_config(config)
    runner.wait_for("runner: changed, but a reload cannot apply this change; restart the supervisor")
    code, output = shop.command("apply")
    assert code == 0
    assert "the supervisor of this folder: not reloaded; after the fix, run: python -m runner reload" in plain(output)
    assert "done: the broker matches topology.yaml" in output


def drawn(draw: random.Random, before: dict[str, Any], shipped: dict[str, Any], seen: dict[str, set[str]]) -> Any:
    """Draw another topology.yaml that still routes orders to payment and notification, payments to notification."""
    topology = copy.deepcopy(shipped)
    kind = draw.choice(["topic", "topic", "topic", "direct"])
    topology["exchanges"]["orders.topic"]["type"] = kind
    topology["exchanges"]["unrouted"]["type"] = draw.choice(["fanout", "fanout", "topic"])
    topology["queues"]["unrouted.all"]["bind"] = {"unrouted": ["#"]}
    if draw.random() < 0.2:
        del topology["exchanges"]["orders.topic"]["alternate_exchange"]
    topology["bindings"] = []
    for name in (PAYMENT, MAIL):
        keys = ["order.created"] if kind == "direct" else draw.choice(
            [["order.created.#"], ["order.#"], ["#"], ["order.*"], ["order.created"], ["order.created", "order.x"]]
        )  # fmt: skip
        queue = topology["queues"][name]
        through = f"{name.partition('.')[0]}.{draw.choice(['a', 'b'])}"
        if draw.random() < 0.3:
            topology["exchanges"][through] = {"type": draw.choice(["topic", "fanout"])}
            queue["bind"] = {through: ["#"]}
            topology["bindings"] += [
                {"source": "orders.topic", "destination": through, "destination_type": "exchange", "routing_key": key}
                for key in keys
            ]
        else:
            queue["bind"] = {"orders.topic": keys}
    topology["queues"][PAID]["bind"] = {"payments.topic": [draw.choice(["payment.*", "payment.#", "#"])]}
    for name in (PAYMENT, MAIL, PAID):
        queue = topology["queues"][name]
        same = before["queues"][name].get("type", "quorum")
        queue["type"] = draw.choice([same, same, same, "quorum", "classic"])
        queue["retry"] = draw.choice([["100ms", "200ms", "300ms", "400ms", "500ms"],
                                      ["150ms", "250ms", "350ms", "450ms", "550ms"]])  # fmt: skip
        queue["policy"] = draw.choice([{}, {"max-length": 100_000}, {"max-length": 200_000}])
        if draw.random() < 0.3:
            queue["dead_letter"] = f"{name}.{draw.choice(['lost', 'parked'])}"
    if draw.random() < 0.4:
        topology["policies"] = {"cap": {"pattern": draw.choice(["^un", "^notification", ".*"]), "apply_to": "queues",
                                        "definition": {"max-length": 300_000}}}  # fmt: skip
    for number in range(draw.randrange(3)):
        topology["queues"][f"extra.{number}"] = {"bind": {"orders.topic": ["nothing"]}}
    parts = {part: set(topology.get(part, {})) for part in ("exchanges", "queues", "policies")}
    for part, names in parts.items():
        seen[part] |= names
    if draw.random() < 0.6:
        topology["retire"] = {part: sorted(seen[part] - names) for part, names in parts.items()}
    return topology


def test_a_consumed_queue_is_renamed_under_load_and_each_order_is_paid_once(project: Project, vhost: Vhost) -> None:
    project.options("payment", failure_rate=0.0, latency="1ms", timeout_rate=0.2)
    config, topology = project.config(), project.topology()
    config["services"]["payment"]["inbox"] = True
    topology["queues"][PAYMENT]["retry"] = ["100ms", "200ms", "300ms", "400ms", "500ms", "600ms", "700ms"]
    project.set_config(config)
    project.set_topology(topology)
    shop = Watched(project, vhost)
    orders = Orders(project)
    wait_until(lambda: len(orders.accepted) > 20, 20, "orders come in")
    topology["queues"]["payments.due"] = topology["queues"].pop(PAYMENT) | {"formerly": PAYMENT}
    shop.save(topology)
    shop.runner.wait_for(rf"consumes.0: a queue's former name, '{PAYMENT}'; use the current name 'payments.due'")
    config = project.config()
    config["services"]["payment"]["consumes"] = ["payments.due"]
    project.set_config(config)
    shop.runner.wait_for(rf"topology: > queue    rename {PAYMENT} -> payments.due", timeout=60)
    # By then the old process has stopped, and the new process consumes the renamed queue.
    assert shop.runner.output.index("payment.1: the old process stopped") < shop.runner.output.index("renaming queue")
    count = len(orders.accepted)
    wait_until(lambda: len(orders.accepted) > count + 20, 20, "orders still come in")
    accepted = orders.stop()
    wait_settled(shop.runner, accepted, 60)
    approved = [line for line in shop.runner.lines if ": approved" in line]
    assert len(approved) == len(accepted), "the inbox knows messages handled under the old name"
    assert orders.refused == []
    assert not [name for name in vhost.queues() if name.startswith(PAYMENT)]
    assert shop.command("plan") == (0, "nothing to do\n")
    assert shop.runner.stop() == 0


@pytest.mark.timeout(times(240, 7200))
def test_random_edits_of_a_running_system_lose_no_order(project: Project, vhost: Vhost) -> None:
    seed = int(os.environ.get("FASTCOMMERCE_SEED") or random.randrange(10**6))
    print(f"FASTCOMMERCE_SEED={seed}")
    draw = random.Random(seed)
    project.options("payment", failure_rate=0.0, latency="1ms", timeout_rate=0.1)
    shop = Watched(project, vhost)
    shipped: dict[str, Any] = project.topology()
    topology, seen = shipped, {"exchanges": set[str](), "queues": set[str](), "policies": set[str]()}
    orders = Orders(project)
    outcomes: dict[str, int] = {}
    for number in range(EDITS):
        topology = drawn(draw, topology, shipped, seen)
        outcome = shop.save(topology).partition("| ")[2]
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if draw.random() < 0.1 or number == EDITS // 2:
            shop.agree()
    settle(shop)
    accepted = orders.stop()
    began = time.monotonic()
    wait_settled(shop.runner, accepted, times(60, 300))
    print(f"{EDITS} edits, {outcomes}; {len(accepted)} orders, {len(orders.refused)} refused; all handled"
          f" {time.monotonic() - began:.1f} s after the last")  # fmt: skip
    assert len(accepted) > EDITS
    assert shop.runner.stop() == 0


def settle(shop: Watched) -> None:
    """Agree to all changes, until the plan is empty."""
    deadline = time.monotonic() + 120
    agree: Callable[[], str] = shop.agree
    while (plan := shop.plan())["exit_code"] != 0:
        pending = [f"{one['mark']} {one['name']} {one['why']}" for one in plan["changes"] if one["mark"] != "?"]
        assert time.monotonic() < deadline, pending
        print(pending, agree())
