"""docs/plugins.md: its plugin and both tests run as printed, and its tables list the whole public API."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import fields
from typing import Any
from urllib.request import urlopen

import pika
import yaml

import runner as public
from runner.contract import Contract
from runner.hooks import Context, Hooks
from runner.messages import Event, Message
from runner.store.outbox import EventOutbox
from tests.amqp import channel_to, drained, publish_all
from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Project
from tests.unit.test_plugin_imports import private_imports

#: The lines that add a page with a stream to the plugin with a table.
WEB_PAGE = """
from flask import Flask

from runner import Context
from runner.http import Feed, serve, stream

feed, hooks = Feed(), [handle]


@hookimpl
def handle(message: Message, options: Options, store: MessageStore) -> TransactionResult:
    feed.send({{"order": message.json()["order_id"]}})
    return hooks[0](message, options, store)


@hookimpl
def run(context: Context) -> None:
    app = Flask(__name__)

    @app.get("/")
    def page() -> str:
        return f"{{context.store.read(select(func.count()).select_from(vouchers))[0][0]}} vouchers"

    @app.get("/stream")
    def follow():
        return stream(feed)

    serve(app, context, host="127.0.0.1", port={port})
"""
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")


def chapter(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[str]:
    """Return the first cell of each row of a chapter's table."""
    return [line.split("|")[1] for line in chapter(title).splitlines() if line.startswith("| ")][1:]


def named(title: str) -> set[str]:
    return {name.partition("(")[0] for cell in rows(title) for name in re.findall(r"`([^`]*)`", cell)}


def write(project: Project) -> list[str]:
    """Write the page's files into a project, and return the names of its tests."""
    for name, source in re.findall(r"`([\w/]+\.py)`[^`\n]*:\n\n```python\n(.*?)```", PAGE, re.DOTALL):
        (project.folder / name).write_text(source)
    (contract,) = re.findall(r"```python\n(.*?)```", chapter("Contract"), re.DOTALL)
    with (project.folder / "plugins" / "screening.py").open("a") as plugin:
        plugin.write(f"\n\nfrom runner import Contract\n\n\n{contract}")
    configure(project, "A complete plugin")
    return sorted(path.name for path in project.folder.glob("test_*.py"))


def configure(project: Project, title: str) -> None:
    """Add the lines of a chapter to both files."""
    (block,) = re.findall(r"```yaml\n(.*?)```", chapter(title), re.DOTALL)
    files: dict[str, Any] = {"config": project.config(), "topology": project.topology()}
    for name, key, body in re.findall(r"# (\w+)\.yaml, under (\w+):\n(.*?)(?=^# |\Z)", block, re.DOTALL | re.MULTILINE):
        files[name][key].update(yaml.safe_load(body))
    project.set_config(files["config"])
    project.set_topology(files["topology"])


def test_the_plugin_is_checked_and_both_its_tests_pass_as_printed(project: Project, vhost: Vhost) -> None:
    tests = write(project)
    assert tests == ["test_screening.py", "test_screening_runs.py"]
    code, output = project.call("check", url=vhost.url)
    assert code == 0, output
    assert "1 x screening; consumes screening.orders; publishes order.flagged" in output
    findings = [line for line in output.splitlines() if ".yaml:" in line]
    assert len(findings) == 1, "no queue of the page is bound to its event"
    assert "only-alternate: screening publishes 'order.flagged'" in findings[0]
    misspelt = (project.folder / "config.yaml").read_text().replace("order.flagged", "order.flaged")
    (project.folder / "config.yaml").write_text(misspelt)
    code, output = project.call("check", url=vhost.url)
    assert code == 78
    assert "not an event of the plugin, 'order.flaged'; did you mean 'order.flagged'?" in output
    (project.folder / "config.yaml").write_text(misspelt.replace("order.flaged", "order.flagged"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests],
        cwd=project.folder, env={**os.environ, "RABBITMQ_URL": vhost.url}, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_plugin_with_a_table_a_step_an_inbox_and_a_page_with_a_stream_imports_only_the_public_api(
    project: Project, vhost: Vhost
) -> None:
    plugin, step = re.findall(r"```python\n(.*?)```", chapter("Tables"), re.DOTALL)
    file = project.folder / "plugins" / "vouchers.py"
    file.write_text(plugin)
    configure(project, "Tables")
    config, topology = project.config(), project.topology()
    config["services"]["vouchers"]["options"] = {"number": 3}
    topology["queues"]["given"] = {"bind": {"vouchers.topic": ["#"]}}
    project.set_config(config)
    project.set_topology(topology)
    runner = project.run("run", "vouchers", url=vhost.url)
    runner.pid_of("vouchers.1")
    # Each order is published twice.
    publish_all(vhost.url, [order(number) for number in [*range(12), *range(12)]])
    wait_until(lambda: vhost.queues()["vouchers.orders"].get("messages") == 0, 30, "all are handled")
    assert runner.stop() == 0
    with channel_to(vhost.url) as channel:
        given = {(properties.message_id, body) for _, properties, body in drained(channel, "given")}
    assert sorted(json.loads(body)["voucher"] for _, body in given) == [1, 2, 3]
    file.write_text(f"{plugin}\n\n{step}\n\n{WEB_PAGE.format(port=project.port)}")
    assert set(private_imports(file.read_text())) == set()
    runner = project.run("run", "vouchers", url=vhost.url)
    runner.pid_of("vouchers.1")
    with urlopen(f"http://127.0.0.1:{project.port}/stream", timeout=20) as stream:
        publish_all(vhost.url, [order(12)])
        assert next(line for line in stream if line.startswith(b"data:")) == b'data: {"order":"o12"}\n'
    with urlopen(f"http://127.0.0.1:{project.port}/", timeout=20) as page:
        assert page.read() == b"3 vouchers"
    wait_until(lambda: vhost.queues()["vouchers.orders"].get("messages") == 0, 30, "it is handled")
    assert runner.stop() == 0
    with contextlib.closing(sqlite3.connect(project.folder / "var" / "vouchers.db")) as database:
        assert [used for _, used in database.execute("SELECT order_id, is_used FROM vouchers")] == [0, 0, 0]
        assert database.execute("SELECT count(*) FROM inbox").fetchone() == (13,)
        assert database.execute("SELECT plugin, steps FROM plugin_tables").fetchall() == [("vouchers", 1)]
    assert not (project.folder / "var" / "fastcommerce.db").exists()


def order(number: int) -> tuple[str, str, bytes, pika.BasicProperties]:
    body = json.dumps({"order_id": f"o{number}"}).encode()
    properties = pika.BasicProperties(message_id=f"m{number}", type="order.created", delivery_mode=2)
    return "orders.topic", "order.created", body, properties


def test_the_page_documents_every_hook_and_its_arguments() -> None:
    hooks = {name: member for name, member in vars(Hooks).items() if not name.startswith("_")}
    table = {line.split("|")[1].strip(" `"): line for line in chapter("Hooks").splitlines() if line.startswith("| `")}
    assert set(table) == set(hooks)
    for name, line in table.items():
        arguments = list(inspect.signature(hooks[name]).parameters)[1:]
        assert set(re.findall(r"`(\w+)`", line.split("|")[4])) == set(arguments), name


def test_the_page_documents_every_field_of_arguments_and_results_of_hooks() -> None:
    public = {name for name, member in vars(Message).items() if isinstance(member, property)}
    assert named("Message") == {one.name for one in fields(Message)} | public
    assert named("Event") == {one.name for one in fields(Event)}
    assert named("Contract") == {one.name for one in fields(Contract)}
    members = {name for name in vars(Context) if not name.startswith("_")} | set(Context.__annotations__)
    assert named("Context") == members
    assert named("Outbox") == {name for name in vars(EventOutbox) if not name.startswith("_")} - {"stop"}


def test_the_page_documents_every_public_name() -> None:
    words = set(re.findall(r"\w+", PAGE))
    assert {name for name in public.__all__ if name not in words} == set()
