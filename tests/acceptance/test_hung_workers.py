"""Workers that run without working. The supervisor notices each, logs where it hangs, and replaces it."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from tests import amqp
from tests.chaos.proxy import Proxy
from tests.jobs import publish_all
from tests.machine import in_time
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project, Runner

#: The plugin of each service of the shared runner. Each service has a queue of the same name.
PLUGINS = {
    "overtime": """import os, time
from runner import hookimpl, Event

def wait_for_the_card_gateway():
    time.sleep(600)

@hookimpl
def handle(message):
    if not os.path.exists("hung"):
        open("hung", "w").close()
        wait_for_the_card_gateway()
    return Event("overtime.done", {})
""",
    "held": """import os, re
from runner import hookimpl, Event

@hookimpl
def handle(message):
    if not os.path.exists("held"):
        open("held", "w").close()
        re.match("(a+)+$", "a" * 60 + "b")  # takes centuries, and lets no other thread run
    return Event("held.done", {})
""",
    "lost": """import gc, os
from runner import hookimpl, Event
from runner.amqp.consumer import Consumer

@hookimpl
def handle(message):
    if not os.path.exists("lost"):
        open("lost", "w").close()
        gc.unfreeze()  # only what is looked at for garbage can be found
        (consumer,) = [one for one in gc.get_objects() if type(one) is Consumer]
        cancel = lambda: [consumer.channel.basic_cancel(tag) for tag in list(consumer.channel.consumer_tags)]
        consumer._io.call(cancel)
    return Event("lost.done", {})
""",
    "looping": """import os, time
from runner import hookimpl

@hookimpl
def handle(message): pass

def the_place_where_it_hangs():
    time.sleep(600)

@hookimpl
def run(context):
    context.ready("at work")
    while not context.wait_stop(0.1):
        if os.path.exists("hang"):
            os.unlink("hang")
            the_place_where_it_hangs()
""",
    "patient": """import time
from runner import hookimpl, Event

@hookimpl
def start(options, context):
    context.wait_stop(0.1)  # a pause, and no loop
    time.sleep(2)

@hookimpl
def handle(message):
    time.sleep(2.5)
    return Event("patient.done", {})

@hookimpl
def run(context):
    context.ready("at work")
    context.wait_stop()
""",
    "seed": """from runner import hookimpl, Event

@hookimpl
def run(context):
    for number in range(3):
        context.publish(Event("dependent", {"number": number})).result()
    print("three published")
""",
    "dependent": """from runner import hookimpl, Event

@hookimpl
def handle(message):
    return Event("dependent.done", message.json())
""",
    "crowded": """import time
from runner import hookimpl

@hookimpl
def handle(message):
    time.sleep(0.02)
""",
    "talkative": """from runner import hookimpl

@hookimpl
def handle(message):
    [print("x" * 90) for _ in range(1000)]
""",
}
#: Additional settings of the services that consume their queue.
SETTINGS: dict[str, dict[str, Any]] = {
    "overtime": {"handler_timeout": "1s"},
    "held": {"watchdog": "2s"},
    "lost": {"watchdog": "1s"},
    "looping": {"watchdog": "1s"},
    "patient": {"watchdog": "1s", "handler_timeout": "20s"},
    "dependent": {"depends_on": ["seed"]},
    "crowded": {
        "prefetch": 1,
        "autoscale": {"min": 1, "max": 3, "messages_per_instance": 20, "up": "1s", "down": "2s"},
    },
    "talkative": {},
}
#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("misbehaving runner")


@dataclass(frozen=True)
class Misbehaving:
    """The runner of all misbehaving services."""

    project: Project
    vhost: Vhost
    runner: Runner

    def publish(self, service: str, bodies: list[str]) -> None:
        """Publish a service's jobs with the ids m-0, m-1 and so on."""
        properties = [pika.BasicProperties(message_id=f"m-{number}", delivery_mode=2) for number in range(len(bodies))]
        messages = [("work", service, body.encode(), one) for body, one in zip(bodies, properties, strict=True)]
        amqp.publish_all(self.vhost.url, messages)

    def lines(self, slot: str) -> str:
        """Return the log lines of a slot, including the supervisor's lines about it."""
        return "\n".join(line for line in self.runner.lines if slot in line)


@pytest.fixture(scope="module")
def misbehaving(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Misbehaving]:
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("misbehaving") / "project")
    queues: dict[str, Any] = {}
    services: dict[str, Any] = {"seed": {"publishes": {"work": ["dependent"]}, "restart": "on-failure"}}
    for name, settings in SETTINGS.items():
        queues |= {name: {"bind": {"work": [name]}}, f"{name}.done": {"bind": {"work": [f"{name}.done"]}}}
        services[name] = {"consumes": [name], "publishes": {"work": [f"{name}.done"]}} | settings
    project.set_topology({"exchanges": {"work": {"type": "topic"}}, "queues": queues})
    logs = {"logs": {"max_size": "10kB", "keep": 2}}
    project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, "runner": logs, "services": services})
    for name, plugin in PLUGINS.items():
        project.plugin(name, plugin)
    runner = project.run(url=vhost.url, env={"FASTCOMMERCE_SETTLE": "0"})
    runner.wait_for("everything is RUNNING", 60)
    yield Misbehaving(project, vhost, runner)
    code = runner.process.poll() or runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


@shared
def test_a_handler_over_its_timeout_is_killed_with_its_stack_logged_and_its_message_is_redelivered(
    misbehaving: Misbehaving,
) -> None:
    runner, vhost = misbehaving.runner, misbehaving.vhost
    misbehaving.publish("overtime", ["{}"])
    runner.wait_for(
        r"overtime.1 +\| ERROR: a handler has been processing message m-0 from overtime for 1\.\d s,"
        " longer than its handler_timeout"
    )
    runner.wait_for("overtime.1 +.* in wait_for_the_card_gateway")
    runner.wait_for("overtime.1 killed by SIGABRT, a handler has been processing message m-0 .*: restarting now")
    wait_until(lambda: vhost.ready("overtime.done"), 10)


@shared
def test_a_worker_whose_interpreter_is_blocked_is_killed(misbehaving: Misbehaving) -> None:
    runner, vhost = misbehaving.runner, misbehaving.vhost
    misbehaving.publish("held", ["{}"])
    runner.wait_for("held.1 sent no watchdog ping for 2 s: killed, stack traces follow", 15)
    runner.wait_for("held.1 killed by SIG(ABRT|KILL), sent no watchdog ping for 2 s: restarting now", 10)
    wait_until(lambda: vhost.ready("held.done"), 10)


@shared
def test_a_worker_that_lost_its_consumer_is_replaced(misbehaving: Misbehaving) -> None:
    runner, vhost = misbehaving.runner, misbehaving.vhost
    misbehaving.publish("lost", ["{}"])
    runner.wait_for("lost.1 killed by SIGABRT, lost its consumer: restarting now", 15)
    misbehaving.publish("lost", ["{}"])
    wait_until(lambda: vhost.ready("lost.done") >= 2, 10)


@shared
def test_a_service_whose_own_loop_hangs_is_killed(misbehaving: Misbehaving) -> None:
    runner = misbehaving.runner
    (misbehaving.project.folder / "hang").touch()
    runner.wait_for(r"looping.1 +\| ERROR: the plugin's loop has not called wait_stop for 1\.\d s")
    runner.wait_for("looping.1 +.* in the_place_where_it_hangs")
    runner.wait_for(r"looping.1 killed by SIGABRT, the plugin's loop has not called wait_stop .*: restarting now")
    runner.pid_of("looping.1", count=2)


@shared
def test_a_slow_start_a_long_message_and_a_waiting_loop_are_no_hang(misbehaving: Misbehaving) -> None:
    misbehaving.publish("patient", ["{}"])
    wait_until(lambda: misbehaving.vhost.ready("patient.done"), 10)
    assert "killed" not in misbehaving.lines("patient.1")
    assert "patient.1 RUNNING" in misbehaving.lines("patient.1")


def test_an_unreachable_broker_is_not_fatal_even_with_a_short_start_timeout(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {"start_timeout": f"{in_time(2):.0f}s", "backoff": {"max": "500ms"}}
    jobs.set_config(config)
    jobs.plugin("jobs", "from runner import hookimpl\n@hookimpl\ndef handle(message): pass\n")
    address = urlsplit(vhost.url)
    with contextlib.closing(Proxy([(str(address.hostname), int(address.port or 0))])) as proxy:
        runner = jobs.run(url=vhost.url.replace(f":{address.port}/", f":{proxy.ports[0]}/"))
        pid = runner.pid_of("jobs.1")
        proxy.cut(600)
        os.kill(pid, 9)
        runner.wait_for(r"jobs.1 exited with status 75 \(broker unreachable or topology missing\)", 20)
        runner.wait_for("jobs.1 WAITING for the broker", 20)
        assert "FATAL" not in runner.output
        assert runner.stop() == 0


@shared
def test_a_completed_run_exits_and_other_services_can_depend_on_it(misbehaving: Misbehaving) -> None:
    runner = misbehaving.runner
    runner.wait_for("seed.1 EXITED, done")
    assert runner.output.index("three published") < runner.output.index("dependent.1 RUNNING")
    wait_until(lambda: misbehaving.vhost.ready("dependent.done") == 3, 10)


@shared
def test_the_number_of_instances_follows_the_queue_and_the_reason_is_logged(misbehaving: Misbehaving) -> None:
    runner = misbehaving.runner
    first = runner.pid_of("crowded.1")
    misbehaving.publish("crowded", [str(number) for number in range(300)])
    runner.wait_for(r"crowded scaled up from 1 to [23] after 1 s: \d+ ready messages, 20 per instance")
    runner.pid_of("crowded.2")
    runner.wait_for(r"crowded scaled down from [23] to [12] after 2 s: \d+ ready messages, 20 per instance", 60)
    runner.wait_for(r"crowded scaled down from [23] to 1", 60)
    runner.wait_for("crowded.2 stopped")
    assert not [line for line in runner.lines if "crowded.1 stopped" in line]
    assert os.path.exists(f"/proc/{first}")


def test_a_failing_service_is_not_scaled(jobs: Project, vhost: Vhost) -> None:
    config = jobs.config()
    config["services"]["jobs"] |= {
        "autoscale": {"min": 1, "max": 3, "messages_per_instance": 10, "up": "0s"},
        "restart_limit": {"count": 2, "window": "60s"},
        "max_crashes": 1,  # so that each crash counts, because further crashes would be blamed on the message
    }
    config["services"]["other"] = {"consumes": ["done"]}
    jobs.set_config(config)
    jobs.plugin("other", "from runner import hookimpl\n@hookimpl\ndef handle(message): pass\n")
    jobs.plugin("jobs", "from runner import hookimpl\n@hookimpl\ndef handle(message): __import__('os')._exit(1)\n")
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish_all(vhost, {"m-1": "{}", "m-2": "{}"})  # each message stops an instance; two are too few for scaling
    runner.wait_for("jobs.1 FATAL", 60)
    publish_all(vhost, {f"more-{number}": "{}" for number in range(30)})
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 3)
    assert "scaled" not in runner.output
    assert runner.stop() == 1


@shared
def test_output_and_history_are_written_to_files_if_configured(misbehaving: Misbehaving) -> None:
    runner = misbehaving.runner
    os.kill(runner.pid_of("talkative.1"), 9)
    runner.pid_of("talkative.1", count=2)
    misbehaving.publish("talkative", ["{}"])
    wait_until(lambda: runner.output.count("x" * 90) >= 1000, 30)
    log = misbehaving.project.folder / "var" / "log"
    names = ["talkative.1.log", "talkative.1.log.1", "talkative.1.log.2"]
    # The files are renamed one after the other.
    wait_until(
        lambda: sorted(path.name for path in log.glob("talkative*")) == names,
        30,
        "the file is full for the second time",
    )
    assert all(path.stat().st_size <= 10_000 for path in log.iterdir())
    history = "".join(path.read_text() for path in log.glob("history.log*"))
    for change in ("WAITING -> STARTING", "STARTING -> RUNNING, pid", "RUNNING -> BACKOFF, pid"):
        assert f"talkative.1 {change}" in history
    assert "killed by SIGKILL" in history
    assert "files reloaded" not in (log / "runner.log").read_text()
