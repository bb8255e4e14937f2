"""The README's exercises, with the very lines of YAML that it gives."""

from __future__ import annotations

import json
import re
import sqlite3
import urllib.request
from typing import Any

import yaml

from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Project


def lines_of(heading: str) -> list[tuple[str, Any]]:
    """The YAML of one exercise: pairs of file and what is to be added to it."""
    text = (ROOT / "README.md").read_text()
    section = re.search(rf"^### {heading}.*?(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    parts = []
    for block in re.findall(r"```yaml\n(.*?)```", section[0], re.DOTALL):
        for file, body in re.findall(r"# (\w+)\.yaml\n(.*?)(?=^# |\Z)", block, re.DOTALL | re.MULTILINE):
            parts.append((file, yaml.safe_load(body)))
    assert parts
    return parts


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return new


def apply(project: Project, number: int) -> None:
    for file, part in lines_of(f"{number}\\."):
        if file == "config":
            project.set_config(merged(project.config(), part))
        else:
            project.set_topology(merged(project.topology(), part))


def test_exercise_1_a_payment_that_times_out_is_retried_and_parked(project: Project, vhost: Vhost) -> None:
    apply(project, 1)
    runner = project.run(url=vhost.url)
    order = project.first_order()
    for words in ("attempt 1 of 3 failed, gateway timed out.*again in 1s", "attempt 2 of 3 .*again in 2s"):
        runner.wait_for(words)
    runner.wait_for(r"attempt 3 of 3 .*: parked in payment\.order\.created\.dlq")
    (parked,) = wait_until(lambda: vhost.messages("payment.order.created.dlq"), 5)
    assert parked["properties"]["correlation_id"] == order
    desk = project.run("dlq", "list", url=vhost.url)
    assert desk.process.wait(20) == 0
    desk.wait_for("payment.order.created +1 .* gateway timed out")
    assert runner.stop() == 0
    config = project.config()
    del config["services"]["payment"]["options"]
    project.set_config(config)
    runner = project.run(url=vhost.url)
    runner.pid_of("payment.1")
    assert project.run("dlq", "replay", "--all", url=vhost.url).process.wait(20) == 0
    runner.wait_for(f"Your order {order} is paid")
    assert runner.stop() == 0


def test_exercise_2_two_workers_share_the_orders_and_one_that_is_killed_loses_none(
    project: Project, vhost: Vhost
) -> None:
    apply(project, 2)
    project.options("payment", failure_rate=0.0)
    runner = project.run(url=vhost.url)
    orders = [project.first_order() for _ in range(4)]
    runner.wait_for(r"payment\.1 .*received from payment")
    runner.wait_for(r"payment\.2 .*received from payment")
    for order in orders:
        runner.wait_for(f"Your order {order} is paid")
    assert runner.stop() == 0


def test_exercise_3_orders_reach_the_queue_of_their_region(project: Project, vhost: Vhost) -> None:
    apply(project, 3)
    runner = project.run(url=vhost.url)
    project.first_order()
    order = {"customer_email": "a@example.com", "amount": 1, "currency": "usd", "region": "eu"}
    assert project.post(order)[0] == 202
    (copy,) = wait_until(lambda: vhost.messages("eu.orders"), 5)
    assert copy["routing_key"] == "order.created.usd.eu"
    runner.wait_for("received from payment.order.created", count=2)
    assert runner.stop() == 0


def test_exercise_5_an_order_that_is_sent_three_times_is_charged_three_times_and_with_an_inbox_once(
    shipped: Project, vhost: Vhost
) -> None:
    runner = shipped.run("run", "--watch", url=vhost.url)
    runner.pid_of("audit.1")
    shipped.first_order()

    def post_three(key: str) -> str:
        answers = [shipped.post(None, 10, **{"Idempotency-Key": key})[1] for _ in range(3)]
        (order,) = {answer["order_id"] for answer in answers}
        return str(order)

    def kinds(order: str, *, count: int) -> list[tuple[str, str]]:
        def told() -> Any:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{shipped.port}/orders/{order}", timeout=10) as response:
                    history = json.loads(response.read())["history"]
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 404:  # audit knows of it soon
                    raise
                return None
            return history if len(history) == count else None

        history = wait_until(told, 20, f"a story of {count} entries")
        return [(one["kind"], one["service"]) for one in history if one["kind"] != "published"]

    # Two events, and each of order.created's two readers and payment.success's one three times.
    before = kinds(post_three("my-first-key"), count=2 + 9)
    assert sorted(before) == [("handled", "notification")] * 6 + [("handled", "payment")] * 3
    apply(shipped, 5)
    runner.pid_of("payment.1", count=2)
    runner.pid_of("notification.1", count=2)
    for service in ("payment", "notification"):
        runner.wait_for(f"{service}.1 stopped, the old one")  # which has no inbox
    order = post_three("my-second-key")
    after = kinds(order, count=2 + 9)
    assert after.count(("handled", "payment")) == 1
    assert after.count(("handled", "notification")) == 2
    assert len([kind for kind, _ in after if kind == "duplicate"]) == 6
    assert runner.output.count(f"order {order}: received from payment.order.created") == 1
    with sqlite3.connect(shipped.folder / "var" / "fastcommerce.db") as database:
        assert database.execute("select order_id from charges").fetchall() == [(order,)]
        assert database.execute("select count(*) from emails where order_id = ?", (order,)).fetchone() == (2,)
    database.close()
    assert runner.stop() == 0


def test_exercise_4_an_order_is_told_of_by_the_beginning_of_its_id_and_by_the_api(
    shipped: Project, vhost: Vhost
) -> None:
    apply(shipped, 4)
    runner = shipped.run(url=vhost.url)
    order = shipped.first_order()
    runner.wait_for(f"order {order}: received from payment.order.created")

    def told() -> str:
        command = shipped.run("order", "show", order[:8])
        command.process.wait(30)
        command.stop()
        return command.output if "payment" in command.output else ""

    assert f"order {order}: " in wait_until(told, 15)
    with urllib.request.urlopen(f"http://127.0.0.1:{shipped.port}/orders/{order}", timeout=10) as response:
        assert json.loads(response.read())["order_id"] == order
    assert runner.stop() == 0
