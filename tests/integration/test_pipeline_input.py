"""A worker on a real broker, with unusual messages, connections and databases."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pika
import pytest

from tests.amqp import publish_all
from tests.jobs import publish
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner

TRACED = """from runner import Event, hookimpl

@hookimpl
def handle(message):
    return [Event("done", {"n": n}) for n in range(message.json().get("events", 1))]
"""
NOTES = """from runner import Contract, hookimpl

@hookimpl
def contract():
    return Contract(records=["attempts"])

@hookimpl
def handle(message):
    pass
"""
#: A handler that fails at a message's first attempt if the message asks for it.
FAILS_FIRST = TRACED.replace(
    "    return [", "    if message.attempt == 1 and message.json().get('fails'):\n        1 / 0\n    return ["
)


def traced(jobs: Project, vhost: Vhost, **settings: Any) -> Runner:
    """Run the jobs service with traced attempts. The service ``notes`` consumes the traces."""
    topology, config = jobs.topology(), jobs.config()
    topology["queues"]["notes"] = {}
    config["services"]["jobs"] |= settings
    config["services"]["notes"] = {"consumes": ["notes"], "prefetch": 1000}
    jobs.set_topology(topology)
    jobs.set_config(config)
    jobs.plugin("jobs", TRACED)
    jobs.plugin("notes", NOTES)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    runner.pid_of("notes.1")
    return runner


def amqp(vhost: Vhost, *messages: tuple[bytes, pika.BasicProperties]) -> None:
    publish_all(vhost.url, (("work", "job.x", body, properties) for body, properties in messages))


@pytest.mark.timeout(180)
def test_notes_about_more_events_than_the_publish_window_do_not_block_the_publisher(
    jobs: Project, vhost: Vhost
) -> None:
    runner = traced(jobs, vhost, concurrency=8, prefetch=1000)
    amqp(vhost, *((b'{"events": 300}', pika.BasicProperties(message_id=f"m{number}")) for number in range(20)))
    wait_until(lambda: (vhost.queues()["done"].get("messages") or 0) >= 20 * 300, 60, "all events are there")
    wait_until(lambda: vhost.queues()["jobs"].get("messages") == 0, 30, "all are acknowledged")
    assert "killed" not in runner.output
    assert runner.stop() == 0


def test_messages_with_properties_that_are_not_utf_8_are_handled_and_traced_with_and_without_an_inbox(
    jobs: Project, vhost: Vhost
) -> None:
    topology, config = jobs.topology(), jobs.config()
    topology["queues"]["kept"] = topology["queues"]["jobs"]
    config["services"]["kept"] = {**config["services"]["jobs"], "plugin": "jobs", "consumes": ["kept"], "inbox": True}
    jobs.set_topology(topology)
    jobs.set_config(config)
    runner = traced(jobs, vhost)
    runner.pid_of("kept.1")
    raw = b"M\xfcller"
    amqp(
        vhost,
        (b"{}", pika.BasicProperties(message_id=raw)),
        (b"{}", pika.BasicProperties(message_id="b", correlation_id=raw, type=raw, app_id=raw)),
        (b"{}", pika.BasicProperties(message_id="c")),
    )
    wait_until(lambda: vhost.ready("done") == 6, 20)

    def left() -> set[int | None]:
        queues = vhost.queues()
        return {queues[name].get("messages") for name in ("jobs", "kept")}

    wait_until(lambda: left() == {0}, 20, "all are acknowledged")
    assert [vhost.ready(name) for name in ("jobs.dlq", "kept.dlq")] == [0, 0]
    assert runner.stop() == 0


def with_inbox(jobs: Project) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {"inbox": True}
    jobs.set_config(config)
    jobs.plugin("jobs", FAILS_FIRST)


def test_two_equal_messages_without_an_id_remain_two_messages_in_their_retries(jobs: Project, vhost: Vhost) -> None:
    with_inbox(jobs)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    same, named = (b"{}", pika.BasicProperties()), (b"{}", pika.BasicProperties(message_id="x"))
    amqp(vhost, same, same, named, named)
    wait_until(lambda: vhost.ready("done") == 4, 20)
    amqp(vhost, *[(b'{"fails": 1}', pika.BasicProperties())] * 2)
    wait_until(lambda: vhost.ready("done") == 6, 20, "both are handled at their second attempt")
    with sqlite3.connect(jobs.folder / "var" / "fastcommerce.db") as database:
        assert database.execute("select message_id from inbox").fetchall() == [("x",)]
    database.close()
    assert runner.stop() == 0


def test_a_message_whose_earlier_events_may_no_longer_be_published_is_dead_lettered_at_once(
    jobs: Project, vhost: Vhost
) -> None:
    with_inbox(jobs)
    runner = jobs.run(url=vhost.url)
    runner.wait_for("everything is RUNNING")
    publish(vhost, "{}", message_id="x")
    wait_until(lambda: vhost.messages("done"), 20)
    config = jobs.config()
    config["services"]["jobs"]["publishes"] = {}
    jobs.set_config(config)
    code, output = jobs.call("reload", url=vhost.url)
    assert code == 0, output
    runner.wait_for("jobs.1: the old process stopped")
    publish(vhost, "{}", message_id="x")
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 20)
    assert "publishes: exchange 'work' is missing; add it" in json.dumps(parked["properties"]["headers"])
    assert runner.stop() == 0
