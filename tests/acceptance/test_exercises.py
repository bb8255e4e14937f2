"""docs/tutorial.md: its exercises with exactly the lines of YAML that it prints, and the service of the README."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Project, Runner


def lines_of(heading: str) -> list[tuple[str, Any]]:
    """Return the YAML of one exercise as pairs of a file and its additional lines."""
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
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


def add_the_service_of_the_readme(project: Project) -> None:
    chapter = (ROOT / "README.md").read_text("utf-8").partition("\n## Write a service\n")[2].partition("\n## ")[0]
    (plugin,) = re.findall(r"`plugins/counter\.py`:\n\n```python\n(.*?)```", chapter, re.DOTALL)
    project.plugin("counter", plugin)
    (block,) = re.findall(r"```yaml\n(.*?)```", chapter, re.DOTALL)
    files = {"config": project.config(), "topology": project.topology()}
    for file, key, body in re.findall(r"# (\w+)\.yaml, under (\w+):\n(.*?)(?=^# |\Z)", block, re.DOTALL | re.MULTILINE):
        files[file][key].update(yaml.safe_load(body))
    project.set_config(files["config"])
    project.set_topology(files["topology"])


def shell(project: Project, page: str, beginning: str, **changes: str) -> str:
    """Run a page's shell sample with the project's port and other changes, and return its output."""
    text = (ROOT / page).read_text("utf-8")
    (sample,) = (one for one in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if one.startswith(beginning))
    command = sample.replace("localhost:8000", f"localhost:{project.port}")
    assert command != sample
    for old, new in changes.items():
        assert old in command
        command = command.replace(old, new)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")


def reload(project: Project, vhost: Vhost) -> None:
    code, output = project.call("reload", url=vhost.url)
    assert code == 0, output


@needs_curl
def test_a_reader_does_exercises_1_to_3_retries_a_second_worker_and_routing_by_region(
    project: Project, vhost: Vhost
) -> None:
    apply(project, 1)
    add_the_service_of_the_readme(project)
    runner = project.run(url=vhost.url)
    runner.wait_for("order_api.1 RUNNING")
    order = json.loads(shell(project, "README.md", "curl -X POST"))["order_id"]
    for words in ("attempt 1 of 3 failed, gateway timed out.*again in 1s", "attempt 2 of 3 .*again in 2s"):
        runner.wait_for(words)
    runner.wait_for(r"attempt 3 of 3 .*: dead-lettered to payment\.order\.created\.dlq")
    runner.wait_for(r"counter\.1 +\| \{'USD': 1\}")
    (dead_letter,) = wait_until(lambda: vhost.messages("payment.order.created.dlq"), 5)
    assert dead_letter["properties"]["correlation_id"] == order
    code, output = project.call("dlq", "list", url=vhost.url)
    assert code == 0
    assert re.search("payment.order.created +1 .* gateway timed out", output)
    config = project.config()
    del config["services"]["payment"]["options"]
    project.set_config(config)
    reload(project, vhost)
    runner.wait_for(r"payment\.1: the old process stopped")
    assert project.call("dlq", "replay", "--all", url=vhost.url) == (0, "1 message replayed\n")
    runner.wait_for(f"Your order {order} is paid")

    apply(project, 2)
    project.options("payment", failure_rate=0.0)
    reload(project, vhost)
    runner.wait_for(r"payment\.1: the old process stopped", count=2)
    orders = [project.first_order() for _ in range(4)]
    for slot in ("payment.1", "payment.2"):
        runner.wait_for(rf"{re.escape(slot)} .*order ({'|'.join(orders)}): received from payment")
    for order in orders:
        runner.wait_for(f"Your order {order} is paid")

    apply(project, 3)
    project.options("payment", latency="0ms")
    reload(project, vhost)
    runner.wait_for(r"order_api\.1: the old process stopped")
    orders = [project.first_order()]
    of_eu = {"customer_email": "a@example.com", "amount": 1, "currency": "usd", "region": "eu"}
    status, answer = project.post(of_eu)
    assert status == 202
    (copy,) = wait_until(lambda: vhost.messages("eu.orders"), 5)
    assert copy["routing_key"] == "order.created.usd.eu"
    for order in (*orders, answer["order_id"]):
        runner.wait_for(f"order {order}: received from payment.order.created")
    assert runner.stop() == 0


def test_the_routes_of_exercise_3_are_those_of_the_page(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", audit=True)
    apply(project, 3)
    tutorial = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    (routed,) = re.findall(r"^\$ fastcommerce (route .*)\n((?:.+\n)*?)…\n", tutorial, re.MULTILINE)
    code, output = project.call(*routed[0].split())
    assert (code, output[: len(routed[1])]) == (0, routed[1])
    project.close()


def check_history(shipped: Project, runner: Runner, order: str) -> None:
    runner.wait_for(f"order {order}: received from payment.order.created")

    def shown() -> str:
        _, output = shipped.call("order", "history", order[:8])
        return output if "payment" in output else ""

    assert f"order {order}: " in wait_until(shown, 15)
    with urllib.request.urlopen(f"http://127.0.0.1:{shipped.port}/orders/{order}", timeout=10) as response:
        assert json.loads(response.read())["order_id"] == order


@needs_curl
def test_exercises_4_and_5_the_history_of_an_order_and_one_charge_with_an_inbox(shipped: Project, vhost: Vhost) -> None:
    apply(shipped, 4)
    runner = shipped.run("run", "--watch", url=vhost.url)
    runner.pid_of("audit.1")
    check_history(shipped, runner, shipped.first_order())
    config = shipped.config()
    del config["services"]["payment"]["options"]
    shipped.set_config(config)
    runner.wait_for("payment.1: the old process stopped")

    def post_three(key: str) -> str:
        printed = shell(shipped, "docs/tutorial.md", "for i in", **{"my-first-key": key})
        orders = re.findall(r'"order_id": "([^"]*)"', printed)
        assert len(orders) == 3
        (order,) = set(orders)
        return str(order)

    def kinds(order: str, *, count: int) -> list[tuple[str, str]]:
        def complete_history() -> Any:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{shipped.port}/orders/{order}", timeout=10) as response:
                    history = json.loads(response.read())["history"]
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 404:  # audit has not recorded the order yet
                    raise
                return None
            return history if len(history) == count else None

        history = wait_until(complete_history, 20, f"a history of {count} entries")
        return [(one["kind"], one["service"]) for one in history if one["kind"] != "published"]

    # Two events, and each of the three consumers handles its event three times.
    first = post_three("my-first-key")
    before = kinds(first, count=2 + 9)
    assert sorted(before) == [("handled", "notification")] * 6 + [("handled", "payment")] * 3
    apply(shipped, 5)
    for service, count in (("payment", 2), ("notification", 1)):
        runner.wait_for(f"{service}.1: the old process stopped", count=count)  # the process without an inbox
    order = post_three("my-second-key")
    after = kinds(order, count=2 + 9)
    assert after.count(("handled", "payment")) == 1
    assert after.count(("handled", "notification")) == 2
    assert len([kind for kind, _ in after if kind == "duplicate"]) == 6
    received = f"order {order}: received from payment.order.created"
    runner.wait_for(received)  # the log may be later than the history
    assert runner.output.count(received) == 1
    with sqlite3.connect(shipped.folder / "var" / "fastcommerce.db") as database:
        charged = database.execute("select order_id from charges where order_id in (?, ?)", (first, order))
        assert charged.fetchall() == [(order,)], "only the order with an inbox has a row"
        assert database.execute("select count(*) from emails where order_id = ?", (order,)).fetchone() == (2,)
    database.close()
    assert runner.stop() == 0
