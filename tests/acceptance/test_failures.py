"""What becomes of messages that cannot be handled, and of workers that cannot run."""

from __future__ import annotations

import re
import time
from typing import Any

import pika
import pytest

from runner.amqp import field
from runner.headers import Timestamp
from tests.amqp import channel_to
from tests.amqp import publish as amqp_publish
from tests.jobs import publish, publish_all
from tests.rabbit import Vhost, wait_until
from tests.running import Project

field.install()


def test_a_failing_message_is_tried_with_the_configured_delays_and_then_parked_with_its_reason(
    jobs: Project, vhost: Vhost
) -> None:
    jobs.plugin(
        "jobs",
        """import time
from runner import hookimpl, Message

@hookimpl
def handle(message: Message):
    print(f"try {message.attempt} at {time.monotonic()} {message.routing_key} {message.id}")
    raise ValueError("no such luck")
""",
    )
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, "{}", message_id="m-1", correlation_id="order-1", type="job.x", headers={"kept": "yes"})
    runner.wait_for("attempt 1 of 3 failed, ValueError: no such luck: again in 200ms")
    runner.wait_for("attempt 2 of 3 failed, ValueError: no such luck: again in 400ms")
    runner.wait_for("attempt 3 of 3 failed, ValueError: no such luck: parked in jobs.dlq")
    tries = [float(at) for at in re.findall(r"try \d at ([\d.]+) job.x m-1", runner.output)]
    assert 0.2 <= tries[1] - tries[0] < 0.5
    assert 0.4 <= tries[2] - tries[1] < 0.8
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 5)
    properties = parked["properties"]
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
    assert runner.stop() == 0


def test_a_rejected_message_is_parked_at_once_and_the_good_ones_behind_it_are_handled(
    jobs: Project, vhost: Vhost
) -> None:
    jobs.plugin(
        "jobs",
        """from runner import Event, hookimpl, Message, Reject

@hookimpl
def handle(message: Message):
    job = message.json()
    if job["bad"]:
        raise Reject("this one is bad")
    return Event("done", job)
""",
    )
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    for body in ('{"bad": true}', "not json", '{"bad": false}', '{"bad": false}'):
        publish(vhost, body)
    done = wait_until(lambda: vhost.ready("done") == 2 and vhost.messages("done"), 15)
    assert all(one["properties"]["app_id"] == "jobs" for one in done)
    parked = wait_until(lambda: vhost.ready("jobs.dlq") == 2 and vhost.messages("jobs.dlq"), 5)
    reasons = {one["payload"]: one["properties"]["headers"]["x-last-error"] for one in parked}
    assert reasons['{"bad": true}'] == "this one is bad"
    assert "the body is not usable JSON" in reasons["not json"]
    assert vhost.messages("jobs") == []
    assert runner.stop() == 0


def test_an_event_that_the_service_does_not_publish_or_nobody_receives_parks_its_message(
    jobs: Project, vhost: Vhost
) -> None:
    topology = jobs.topology()
    topology["queues"]["jobs"]["retry"] = []
    del topology["queues"]["done"]
    jobs.set_topology(topology)
    jobs.plugin(
        "jobs",
        """from runner import Event, hookimpl, Message

@hookimpl
def handle(message: Message):
    return Event(message.type, {})
""",
    )
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, "{}", type="dome")
    publish(vhost, "{}", type="done")
    parked = wait_until(lambda: vhost.ready("jobs.dlq") == 2 and vhost.messages("jobs.dlq"), 15)
    reasons = sorted(one["properties"]["headers"]["x-last-error"] for one in parked)
    assert reasons == [
        "PluginError: services.jobs.publishes: event 'dome' is not there; did you mean 'done'?",
        "Unroutable: exchange 'work', routing key 'done': no queue is bound for it;"
        " add a binding, or an alternate_exchange",
    ]
    assert runner.stop() == 0


def test_a_message_in_hand_is_finished_before_the_worker_stops(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin(
        "jobs",
        """import time
from runner import Event, hookimpl, Message

@hookimpl
def handle(message: Message):
    print("begun")
    time.sleep(1.5)
    return Event("done", {})
""",
    )
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, "{}")
    publish(vhost, "{}")
    runner.wait_for("begun")
    assert runner.stop() == 0
    assert vhost.ready("done") == 1
    assert vhost.ready("jobs") == 1
    assert runner.output.count("begun") == 1


def test_a_worker_that_always_crashes_is_given_up_with_the_reason_and_the_others_go_on(
    project: Project, vhost: Vhost
) -> None:
    config = project.config()
    config["services"]["broken"] = {"consumes": ["unrouted.all"]}
    project.set_config(config)
    project.plugin(
        "broken",
        """from runner import hookimpl, Message

@hookimpl
def start():
    raise RuntimeError("no database")

@hookimpl
def handle(message: Message):
    pass
""",
    )
    runner = project.run(url=vhost.url)
    runner.wait_for(r"RuntimeError: no database")
    runner.wait_for(r"broken.1 exit 1: restarting in \d\.\d s \(1/5\)")
    runner.wait_for(r"broken.1 FATAL, 5 failures within 60 s, the last: exit 1: given up", 40)
    assert project.post()[0] == 202
    assert runner.stop() == 1


def test_a_worker_that_cannot_hear_the_stop_is_killed_at_the_deadline(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin(
        "jobs",
        """import signal, time
from runner import hookimpl, Message

@hookimpl
def handle(message: Message):
    pass

@hookimpl
def run(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.ready("deaf")
    while True:
        time.sleep(60)
""",
    )
    runner = jobs.run(url=vhost.url)
    runner.wait_for("jobs.1 RUNNING, pid .*deaf")
    started = time.monotonic()
    assert runner.stop() == 0
    assert 5 < time.monotonic() - started < 10
    runner.wait_for("jobs.1 did not stop within 6 s: killed")


def test_two_instances_share_the_messages_of_one_queue(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {"instances": 2, "prefetch": 1}
    jobs.set_config(config)
    jobs.plugin(
        "jobs",
        """import os, time
from runner import Event, hookimpl, Message

@hookimpl
def handle(message: Message):
    time.sleep(0.05)
    return Event("done", {"pid": os.getpid()})
""",
    )
    runner = jobs.run(url=vhost.url)
    pids = {runner.pid_of("jobs.1"), runner.pid_of("jobs.2")}
    for _ in range(20):
        publish(vhost, "{}")
    done = wait_until(lambda: vhost.ready("done") == 20 and vhost.messages("done"), 15)
    assert {int(re.findall(r"\d+", one["payload"])[0]) for one in done} == pids
    assert runner.stop() == 0


def test_routing_keys_are_made_from_the_orders_fields(project: Project, vhost: Vhost) -> None:
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


PECULIAR = """import asyncio, os, sys
from runner import Event, hookimpl, Message, Reject

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even words")

@hookimpl
def handle(message: Message):
    what = message.json()["do"]
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
    if what == "crash":
        os._exit(1)
    if what == "killed":
        os.kill(os.getpid(), 9)
    return Event("done", {})
"""


def test_whatever_a_handler_does_its_message_is_parked_and_the_next_ones_are_handled(
    jobs: Project, vhost: Vhost
) -> None:
    topology = jobs.topology()
    topology["queues"]["jobs"]["retry"] = []
    jobs.set_topology(topology)
    jobs.plugin("jobs", PECULIAR)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    for what in ("exit", "cancel", "mute", "surrogate", "unfit", "work"):
        publish(vhost, f'{{"do": "{what}"}}')
    wait_until(lambda: vhost.messages("done"), 15)
    parked = wait_until(lambda: vhost.ready("jobs.dlq") == 5 and vhost.messages("jobs.dlq"), 10)
    reasons = [one["properties"]["headers"]["x-last-error"] for one in parked]
    assert reasons[0].startswith("SystemExit: 3")
    assert reasons[1].startswith("CancelledError")
    assert reasons[2] == "Mute: without words"
    assert reasons[3] == "no such currency \\ud800"
    assert "does not fit AMQP" in reasons[4]
    assert runner.output.count("jobs.1 RUNNING") == 1
    assert runner.stop() == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["crash", "killed"])
def test_a_message_that_kills_its_workers_is_parked_alone_and_all_others_are_handled(
    jobs: Project, vhost: Vhost, how: str
) -> None:
    config = jobs.config()
    # Twelve restarts by the usual delays would be most of the time.
    config["services"]["jobs"] |= {"backoff": {"max": "500ms"}}
    jobs.set_config(config)
    jobs.plugin("jobs", PECULIAR)
    runner = jobs.run("run", "jobs", url=vhost.url)
    runner.pid_of("jobs.1")
    runner.stop()
    publish(vhost, f'{{"do": "{how}"}}', message_id="poison")
    for _ in range(20):
        publish(vhost, '{"do": "work"}')
    runner = jobs.run(url=vhost.url)
    wait_until(lambda: vhost.ready("done") == 20, 90, "all good ones are handled")
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 60, "the poison is parked")
    assert parked["properties"]["message_id"] == "poison"
    assert "FATAL" not in runner.output
    assert runner.stop() == 0


def test_a_dead_letter_queue_that_somebody_deleted_is_declared_again(jobs: Project, vhost: Vhost) -> None:
    topology = jobs.topology()
    topology["queues"]["jobs"]["retry"] = []
    jobs.set_topology(topology)
    jobs.plugin("jobs", PECULIAR)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    vhost.delete_queue("jobs.dlq")
    publish(vhost, '{"do": "exit"}')
    runner.wait_for("after the topology is declared again")
    runner.pid_of("jobs.1", count=2)
    wait_until(lambda: vhost.messages("jobs.dlq"), 20)
    assert runner.stop() == 0


def test_when_every_service_was_given_up_the_runner_ends_with_1(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", "from runner import hookimpl, PluginError\n\n@hookimpl\ndef start():\n"
                "    raise PluginError('jobs: no licence')\n\n@hookimpl\ndef handle(message):\n    pass\n")  # fmt: skip
    runner = jobs.run(url=vhost.url)
    assert runner.process.wait(20) == 1
    runner.wait_for("jobs.1 FATAL, exit 78, wrong configuration")
    runner.wait_for("stopping: every service was given up")


def test_a_project_without_services_is_told_of(jobs: Project, vhost: Vhost) -> None:
    (jobs.folder / "config.yaml").write_text("")
    runner = jobs.run(url=vhost.url)
    assert runner.process.wait(10) == 78
    runner.wait_for("config.yaml:1: services: none is defined; add one")


def publish_with_header(url: str, header: Any, body: bytes = b"{}", **properties: Any) -> None:
    with channel_to(url) as channel:
        own = pika.BasicProperties(headers={"at": header}, delivery_mode=2, **properties)
        amqp_publish(channel, "", "jobs", body, own)


def test_a_header_that_is_no_date_in_python_is_kept_on_the_message_s_whole_way(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", PECULIAR)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    # A timestamp in milliseconds, as other languages' clients send it.
    publish_with_header(vhost.url, Timestamp(1_700_000_000_000), message_id="foreign")
    publish_with_header(vhost.url, 1.5, b'{"do": "work"}', message_id="good")
    wait_until(lambda: vhost.ready("done") == 1, 30, "the good one is handled")
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 30, "the foreign one is parked")
    assert parked["properties"]["headers"]["at"] == 1_700_000_000_000
    assert parked["properties"]["headers"]["x-attempt"] == 3
    assert "no broker" not in runner.output
    assert runner.output.count("jobs.1 RUNNING") == 1
    assert runner.stop() == 0


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_message_of_which_no_copy_can_be_made_is_parked_by_the_broker_itself(
    jobs: Project, vhost: Vhost, kind: str
) -> None:
    topology = jobs.topology()
    topology["queues"]["jobs"]["type"] = kind
    jobs.set_topology(topology)
    jobs.plugin("jobs", PECULIAR)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    # As large as the broker takes, so that our own headers no longer fit.
    publish_with_header(vhost.url, "x" * 131_000, message_id="foreign")
    publish(vhost, '{"do": "work"}', message_id="good")
    wait_until(lambda: vhost.ready("done") == 1, 30, "the good one is handled")
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 30, "the foreign one is parked")
    assert parked["properties"]["message_id"] == "foreign"
    runner.wait_for("parked in jobs.dlq by the broker, since no copy can be made")
    assert runner.output.count("jobs.1 RUNNING") == 1
    assert runner.stop() == 0


def test_messages_that_wait_for_their_turn_are_not_parked_however_often_the_runner_is_stopped(
    jobs: Project, vhost: Vhost
) -> None:
    jobs.plugin("jobs", PECULIAR.replace("what = ", "import time; time.sleep(0.1); what = "))
    for turn in range(4):
        runner = jobs.run(url=vhost.url)
        runner.pid_of("jobs.1")
        if turn == 0:
            publish_all(vhost, {f"m-{number}": '{"do": "work"}' for number in range(40)})
        before = vhost.ready("done")
        wait_until(lambda before=before: vhost.ready("done") >= before + 2, 20)  # type: ignore[misc]
        # Stop it once, then kill it three times: as often as a message may crash its worker (max_crashes).
        if turn:
            runner.process.kill()
            wait_until(lambda: not vhost.queues()["jobs"].get("consumers"), 20, "the broker knows")
        else:
            assert runner.stop() == 0
    runner = jobs.run(url=vhost.url)
    wait_until(lambda: vhost.ready("done") >= 40, 30)
    wait_until(lambda: len({one["properties"]["message_id"] for one in vhost.messages("done")}) >= 40, 30)
    assert vhost.messages("jobs.dlq") == []
    assert runner.stop() == 0
