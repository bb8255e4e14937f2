"""Messages that cannot be handled, and workers that cannot run."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from runner.headers import Timestamp
from tests.amqp import channel_to
from tests.amqp import publish as amqp_publish
from tests.jobs import TOPOLOGY, publish, publish_all
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project

#: A handler that acts as the message's ``do`` requests. Each event names its message.
PECULIAR = """import asyncio, sys, time
from runner import Event, hookimpl, Message, Reject

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even words")

@hookimpl
def handle(message: Message):
    job = message.json()
    what = job["do"]
    print(f"attempt {message.attempt} at {time.monotonic()} {message.routing_key} {message.id}")
    if what == "fail":
        raise ValueError("no such luck")
    if what == "reject":
        raise Reject("this one is bad")
    if what == "event":
        return Event(job["type"], {})
    if what == "exit":
        sys.exit(3)
    if what == "cancel":
        raise asyncio.CancelledError
    if what == "mute":
        raise Mute
    if what == "surrogate":
        raise Reject("no such currency \\ud800")
    if what == "unfit":
        return Event("done", {}, headers={"a": {1}})
    return Event("done", {"of": message.id})
"""
WORK = '{"do": "work"}'


class JobService:
    """A service that handles ``jobs`` (with retries), ``once`` (without retries) and ``classic`` (a classic queue)."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        project.set_topology(TOPOLOGY)
        topology = project.topology()
        topology["queues"]["done"]["type"] = "classic"  # it has no delivery limit, so the tests may read it often
        topology["queues"]["once"] = {"bind": {"work": ["once"]}}
        topology["queues"]["classic"] = {"bind": {"work": ["classic"]}, "type": "classic", "retry": ["200ms"]}
        project.set_topology(topology)
        service = {"consumes": ["jobs", "once", "classic"], "publishes": {"work": ["done", "lost"]}}
        project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, "services": {"jobs": service}})
        project.plugin("jobs", PECULIAR)
        self.runner = project.run(url=vhost.url, env={"PYTHONPATH": str(ROOT), "FASTCOMMERCE_SETTLE": "0"})
        self.runner.pid_of("jobs.1")

    def pid(self) -> int:
        """Return the pid of the worker."""
        return int(self.project.slots()["jobs.1"]["pid"])

    def send(self, queue: str, body: str, **properties: Any) -> str:
        """Publish a job directly to a queue, and return its id."""
        properties = {"message_id": uuid.uuid4().hex, **properties}
        with channel_to(self.vhost.url) as channel:
            own = pika.BasicProperties(delivery_mode=2, **properties)
            amqp_publish(channel, "", queue, body.encode(), own, mandatory=True)
        return str(properties["message_id"])

    def dead_letters(self, queue: str, *ids: str) -> list[Any]:
        """Return the dead letters with these ids, once all are there."""

        def look() -> list[Any]:
            there = {one["properties"].get("message_id"): one for one in self.vhost.messages(f"{queue}.dlq")}
            return [there[id] for id in ids] if there.keys() >= set(ids) else []

        return list(wait_until(look, 30, f"parked: {ids}"))

    def reasons(self, queue: str, *ids: str) -> list[str]:
        """Return the reason of each dead letter."""
        return [one["properties"]["headers"]["x-last-error"] for one in self.dead_letters(queue, *ids)]

    def events_of(self, *ids: str) -> list[Any]:
        """Return the events of these messages, once each message has an event."""

        def look() -> list[Any]:
            there = {one["payload"]: one for one in self.vhost.messages("done")}
            wanted = [f'{{"of":"{id}"}}' for id in ids]
            return [there[one] for one in wanted] if there.keys() >= set(wanted) else []

        return list(wait_until(look, 30, f"handled: {ids}"))


@pytest.fixture(scope="module")
def lasting(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """Run the service for the tests that leave it running. Each test uses its own messages."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("failures") / "project")
    one = JobService(project, vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("lasting failures")


@shared
def test_a_failing_message_is_retried_with_the_configured_delays_and_then_dead_lettered_with_its_reason(
    lasting: JobService,
) -> None:
    vhost, runner = lasting.vhost, lasting.runner
    publish(
        vhost, '{"do": "fail"}',
        message_id="m-1", correlation_id="order-1", type="job.x", headers={"kept": "yes"},
    )  # fmt: skip
    runner.wait_for("attempt 1 of 3 failed, ValueError: no such luck: again in 200ms")
    runner.wait_for("attempt 2 of 3 failed, ValueError: no such luck: again in 400ms")
    runner.wait_for("attempt 3 of 3 failed, ValueError: no such luck: dead-lettered to jobs.dlq")
    runner.wait_for(r"attempt 3 at [\d.]+ job.x m-1")
    attempts = [float(at) for at in re.findall(r"attempt \d at ([\d.]+) job.x m-1", runner.output)]
    assert 0.2 <= attempts[1] - attempts[0] < 0.5
    assert 0.4 <= attempts[2] - attempts[1] < 0.8
    (dead_letter,) = lasting.dead_letters("jobs", "m-1")
    properties = dead_letter["properties"]
    assert (properties["message_id"], properties["correlation_id"], properties["type"]) == ("m-1", "order-1", "job.x")
    headers = properties["headers"]
    assert headers["kept"] == "yes"
    assert headers["x-attempt"] == 3
    assert headers["x-exception"] == "ValueError"
    assert headers["x-first-error"] == headers["x-last-error"] == "ValueError: no such luck"
    assert headers["x-origin-queue"] == "jobs"
    assert headers["x-origin-exchange"] == "work"
    assert headers["x-origin-routing-key"] == "job.x"
    assert 'raise ValueError("no such luck")' in headers["x-traceback"]
    assert headers["x-service"] == "jobs"


@shared
def test_a_rejected_message_is_dead_lettered_at_once_and_good_messages_behind_it_are_handled(
    lasting: JobService,
) -> None:
    bad, unread, *good = [lasting.send("jobs", body) for body in ('{"do": "reject"}', "not json", WORK, WORK)]
    assert all(one["properties"]["app_id"] == "jobs" for one in lasting.events_of(*good))
    reasons = lasting.reasons("jobs", bad, unread)
    assert reasons[0] == "this one is bad"
    assert "the body cannot be decoded as JSON" in reasons[1]
    assert [one["properties"]["headers"]["x-attempt"] for one in lasting.dead_letters("jobs", bad, unread)] == [1, 1]
    assert lasting.vhost.ready("jobs") == 0


@shared
def test_an_undeclared_or_unroutable_event_dead_letters_its_message(lasting: JobService) -> None:
    ids = [lasting.send("once", f'{{"do": "event", "type": "{name}"}}') for name in ("dome", "lost")]
    assert lasting.reasons("once", *ids) == [
        "PluginError: services.jobs.publishes: event 'dome' is missing; did you mean 'done'?",
        "Unroutable: exchange 'work', routing key 'lost': no binding matches; add a binding or an alternate_exchange",
    ]


@shared
def test_a_message_of_a_misbehaving_handler_is_dead_lettered_and_the_next_messages_are_handled(
    lasting: JobService,
) -> None:
    pid = lasting.pid()
    *ids, good = [
        lasting.send("once", f'{{"do": "{what}"}}') for what in ("exit", "cancel", "mute", "surrogate", "unfit", "work")
    ]
    lasting.events_of(good)
    reasons = lasting.reasons("once", *ids)
    assert reasons[0].startswith("SystemExit: 3")
    assert reasons[1].startswith("CancelledError")
    assert reasons[2] == "Mute: no text"
    assert reasons[3] == "no such currency \\ud800"
    assert "a property cannot be encoded for AMQP" in reasons[4]
    assert lasting.pid() == pid


@shared
def test_a_deleted_dead_letter_queue_is_declared_again(lasting: JobService) -> None:
    starts = lasting.runner.output.count("jobs.1 RUNNING")
    lasting.vhost.delete_queue("once.dlq")
    sent = lasting.send("once", '{"do": "exit"}')
    lasting.runner.wait_for("declaring the topology again")
    lasting.runner.pid_of("jobs.1", count=starts + 1)
    wait_until(lambda: "once.dlq" in lasting.vhost.queues(), 20)
    lasting.dead_letters("once", sent)


@shared
def test_a_timestamp_that_python_cannot_represent_is_kept_through_all_attempts(lasting: JobService) -> None:
    pid, before = lasting.pid(), lasting.runner.output.count("waiting for the broker")
    # A timestamp in milliseconds, as other languages' clients send it.
    foreign = lasting.send("jobs", '{"do": "fail"}', headers={"at": Timestamp(1_700_000_000_000)})
    good = lasting.send("jobs", WORK, headers={"at": 1.5})
    lasting.events_of(good)
    (dead_letter,) = lasting.dead_letters("jobs", foreign)
    assert dead_letter["properties"]["headers"]["at"] == 1_700_000_000_000
    assert dead_letter["properties"]["headers"]["x-attempt"] == 3
    assert lasting.runner.output.count("waiting for the broker") == before
    assert lasting.pid() == pid


@shared
@pytest.mark.parametrize("queue", ["jobs", "classic"])
def test_a_message_that_cannot_be_copied_is_dead_lettered_by_the_broker(lasting: JobService, queue: str) -> None:
    pid = lasting.pid()
    # The message is as large as the broker allows, so there is no room for our own headers.
    foreign = lasting.send(queue, '{"do": "fail"}', headers={"at": "x" * 131_000})
    lasting.events_of(lasting.send(queue, WORK))
    lasting.dead_letters(queue, foreign)
    lasting.runner.wait_for(f"dead-lettered to {queue}.dlq by the broker, because no copy could be published")
    assert lasting.pid() == pid


def test_a_stop_completes_the_unacked_messages_of_both_instances_and_kills_a_worker_that_ignores_it(
    jobs: Project, vhost: Vhost
) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {"instances": 2, "prefetch": 1}
    config["services"]["deaf"] = {"stop_timeout": "3s"}
    jobs.set_config(config)
    jobs.plugin(
        "jobs",
        """import os, time
from runner import Event, hookimpl, Message

@hookimpl
def handle(message: Message):
    if message.json()["long"]:
        print("begun")
        time.sleep(1.5)
    time.sleep(0.05)
    return Event("done", {"pid": os.getpid()})
""",
    )
    jobs.plugin(
        "deaf",
        """import signal, time
from runner import hookimpl

@hookimpl
def run(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.ready("deaf")
    while True:
        time.sleep(60)
""",
    )
    runner = jobs.run(url=vhost.url)
    pids = {runner.pid_of("jobs.1"), runner.pid_of("jobs.2")}
    runner.wait_for("deaf.1 RUNNING, pid .*deaf")
    publish_all(vhost, {f"m-{number}": '{"long": false}' for number in range(20)})
    done = wait_until(lambda: vhost.ready("done") == 20 and vhost.messages("done"), 15)
    assert {int(re.findall(r"\d+", one["payload"])[0]) for one in done} == pids, "they share the queue's messages"
    publish_all(vhost, {f"l-{number}": '{"long": true}' for number in range(3)})
    runner.wait_for("begun", count=2)
    started = time.monotonic()
    assert runner.stop() == 0
    assert 2.5 < time.monotonic() - started < 8
    runner.wait_for("deaf.1 did not stop within 3 s: killed")
    assert vhost.ready("done") == 22
    assert vhost.ready("jobs") == 1
    assert runner.output.count("begun") == 2


BROKEN = """from runner import hookimpl, Message, PluginError

@hookimpl
def start():
    raise {error}

@hookimpl
def handle(message: Message):
    pass
"""


def test_a_worker_that_always_crashes_becomes_fatal_while_others_run_and_the_runner_exits_with_the_last(
    jobs: Project, vhost: Vhost
) -> None:
    topology, config = jobs.topology(), jobs.config()
    topology["queues"]["other"] = {"bind": {"work": ["other"]}}
    config["services"]["broken"] = {"consumes": ["other"], "restart_limit": {"count": 3}}
    jobs.set_topology(topology)
    jobs.set_config(config)
    jobs.plugin("jobs", PECULIAR)
    jobs.plugin("broken", BROKEN.format(error="RuntimeError('no database')"))
    runner = jobs.run(url=vhost.url)
    runner.wait_for(r"RuntimeError: no database")
    runner.wait_for(r"broken.1 exited with status 1: restarting in \d\.\d s \(failure 1 of 3\)")
    runner.wait_for(r"broken.1 FATAL, 3 failures within 60 s; the last: exited with status 1: given up", 40)
    publish(vhost, WORK)
    wait_until(lambda: vhost.ready("done") == 1, 15, "the others continue")
    jobs.plugin("jobs", BROKEN.format(error="PluginError('jobs: no licence')"))
    os.kill(runner.pid_of("jobs.1"), signal.SIGKILL)
    assert runner.process.wait(20) == 1
    runner.wait_for(r"jobs.1 FATAL, exited with status 78 \(configuration error\)")
    runner.wait_for("stopping: the supervisor gave up on every service")


def test_routing_keys_contain_fields_of_the_order(project: Project, vhost: Vhost) -> None:
    config = project.config()
    config["services"] = {"order_api": config["services"]["order_api"]}
    config["services"]["order_api"]["publishes"] = {"orders.topic": ["order.created.{currency}.{region}"]}
    project.set_config(config)
    topology = project.topology()
    topology["queues"]["eu.orders"] = {"bind": {"orders.topic": ["order.created.*.eu"]}}
    topology["queues"]["usd.orders"] = {"bind": {"orders.topic": ["order.created.usd.*"]}}
    project.set_topology(topology)
    runner = project.run(url=vhost.url)
    project.first_order()
    for currency, region in (("EUR", "eu"), ("USD", "EU"), ("GBP", None)):
        order = {"customer_email": "a@example.com", "amount": "5", "currency": currency, "region": region}
        assert project.post(order)[0] == 202

    def keys(queue: str) -> list[str]:
        return sorted(one["routing_key"] for one in vhost.messages(queue))

    assert keys("eu.orders") == ["order.created.eur.eu", "order.created.usd.eu"]
    assert keys("usd.orders") == ["order.created.usd.eu", "order.created.usd.none"]
    assert len(keys("payment.order.created")) == 4
    assert runner.stop() == 0


def test_a_project_without_services_is_an_error(jobs: Project) -> None:
    (jobs.folder / "config.yaml").write_text("")
    code, output = jobs.call("run")
    assert code == 78
    assert "config.yaml:1: services: no service is defined; add a service" in output


def test_messages_that_only_wait_are_not_dead_lettered_by_stops_of_the_runner(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["jobs"]["max_crashes"] = 1
    jobs.set_config(config)
    jobs.plugin("jobs", PECULIAR.replace("    job = ", "    time.sleep(0.1)\n    job = "))
    for turn in range(2):
        runner = jobs.run(url=vhost.url)
        runner.pid_of("jobs.1")
        if turn == 0:
            publish_all(vhost, {f"m-{number}": '{"do": "work"}' for number in range(40)})
        before = vhost.ready("done")
        wait_until(lambda before=before: vhost.ready("done") >= before + 2, 20)  # type: ignore[misc]
        # The runner is stopped once, then killed, as often as a message may crash its worker (max_crashes).
        if turn:
            runner.process.kill()
            wait_until(lambda: not vhost.queues()["jobs"].get("consumers"), 20, "the broker has noticed the kill")
        else:
            assert runner.stop() == 0
    runner = jobs.run(url=vhost.url)
    wait_until(lambda: vhost.ready("done") >= 40, 30)
    wait_until(lambda: len({one["payload"] for one in vhost.messages("done")}) >= 40, 30)
    assert vhost.messages("jobs.dlq") == []
    assert runner.stop() == 0
