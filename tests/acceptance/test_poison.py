"""Messages that kill every worker that handles them. They are dead-lettered with the reason. All others are handled."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests import amqp
from tests.jobs import TOPOLOGY
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project

pytestmark = pytest.mark.xdist_group("deadly messages")  # all tests of this module share a runner

#: A handler that kills its own process in several ways, and records the messages that it gets.
CRASHING = """import ctypes, os, signal, time
from runner import Event, hookimpl

@hookimpl
def handle(message):
    how = message.json()["do"]
    path = f"handled.{message.queue}"
    with open(path, "a") as file:
        file.write(message.id + "\\n")
    if how == "segfault":
        ctypes.string_at(0)
    elif how.startswith("exit "):
        os._exit(int(how[5:]))
    elif how == "grow":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1024)) * 10_000)
            time.sleep(0.005)
    elif how == "hang":
        time.sleep(600)
    elif how == "killed" or (how == "killed 2 times" and open(path).read().splitlines().count(message.id) <= 2):
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "slow":
        time.sleep(0.05)
    return Event("done", {})
"""
#: The messages of ``ways`` and ``hung``, which may kill one worker each: reason, signal, number of deaths.
WAYS = {
    "exit 0": ("exited with status 0 unexpectedly", "", 1),
    # Workers also use this exit code to report that no broker answers.
    "exit 75": ("exited with status 75", "", 1),
    "grow": ("killed by SIGKILL, used", "SIGKILL", 1),
    # Another process may have killed the worker, so only every fourth kill counts.
    "killed": ("killed by SIGKILL", "SIGKILL", 4),
}
HUNG = {"hang": ("killed by SIGABRT, a handler has been processing message hang", "SIGABRT", 1)}
INNOCENT = "killed 2 times"
MANY_FAILURES = {"backoff": {"max": "500ms"}, "restart_limit": {"count": 100}}
#: A second counted failure would stop these services.
ONE_FAILURE = {"backoff": {"max": "500ms"}, "restart_limit": {"count": 2}}
SERVICES: dict[str, dict[str, Any]] = {
    "jobs": {"instances": 2, "prefetch": 50, **ONE_FAILURE},
    "classic": {"prefetch": 50, "max_crashes": 2, **ONE_FAILURE},
    "ways": {"prefetch": 50, "max_crashes": 1, "memory_max": "128MiB", **MANY_FAILURES},
    "hung": {"prefetch": 50, "max_crashes": 1, "handler_timeout": "1s", **ONE_FAILURE},
    "several": {"concurrency": 8, "max_crashes": 2, **MANY_FAILURES},
    "idle": ONE_FAILURE,
}


def good(count: int, how: str = "work") -> list[tuple[str, str]]:
    """Return the ids and jobs of messages that kill no worker."""
    return [(f"good-{number}", how) for number in range(count)]


POISON = [("poison", "segfault")]
MESSAGES: dict[str, list[tuple[str, str]]] = {
    "jobs": [*good(100), *POISON, *good(200)[100:]],
    "classic": [*good(20), *POISON, *good(40)[20:]],
    "ways": [*good(20), *((how, how) for how in (*WAYS, INNOCENT)), *good(40)[20:]],
    "hung": [*good(5), ("hang", "hang"), *good(10)[5:]],
    "several": [*good(4, "slow"), *POISON, *good(40, "slow")[4:]],
    "idle": [],
}


class CrashingServices:
    """Services whose queues contain poison messages before they start."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        project.set_topology(TOPOLOGY)
        topology = project.topology()
        topology["queues"] |= {name: {} for name in SERVICES} | {"classic": {"type": "classic"}}
        project.set_topology(topology)
        services = {
            name: {"plugin": "jobs", "consumes": [name], "publishes": {"work": ["done"]}, **settings}
            for name, settings in SERVICES.items()
        }
        project.set_config({"broker": {"url": "${RABBITMQ_URL}"}, "services": services})
        project.plugin("jobs", CRASHING)
        code, output = project.call("apply", url=vhost.url)
        assert code == 0, output
        amqp.publish_all(
            vhost.url,
            [
                ("", queue, f'{{"do": "{how}"}}'.encode(), pika.BasicProperties(message_id=id, delivery_mode=2))
                for queue, messages in MESSAGES.items()
                for id, how in messages
            ],
        )
        self.runner = project.run(url=vhost.url, env={"PYTHONPATH": str(ROOT), "FASTCOMMERCE_SETTLE": "0"})

    def dead_letters(self, queue: str, count: int) -> dict[str, dict[str, Any]]:
        """Wait for ``count`` dead letters, and return their headers by id."""
        wait_until(lambda: self.vhost.ready(f"{queue}.dlq") >= count, 90, "the messages are dead-lettered")
        found = self.vhost.messages(f"{queue}.dlq")
        return {one["properties"]["message_id"]: one["properties"]["headers"] for one in found}

    def handled(self, queue: str) -> list[str]:
        """Wait until all messages are handled. Return the ids that the handler got, with repetitions."""
        path = self.project.folder / f"handled.{queue}"
        wait_until(lambda: self.vhost.ready(queue) == 0, 60, "each message is delivered")
        everything = {id for id, _ in MESSAGES[queue]}
        wait_until(lambda: set(path.read_text().splitlines()) == everything, 60, "each message is handled")
        wait_until(lambda: self.unacked(queue) == 0, 20, "no message is unacked")
        return path.read_text().splitlines()

    def unacked(self, service: str) -> int:
        """Return the number of unacked messages of a service."""
        return sum(int(one["in_hand"] or 0) for one in self.project.slots().values() if one["service"] == service)


@pytest.fixture(scope="module")
def crashing(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashingServices]:
    """Run the services for all tests of this module. Each test uses its own services."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("poison") / "project")
    one = CrashingServices(project, vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert "FATAL" not in one.runner.output
    assert code == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("queue", "deaths"), [("jobs", 3), ("classic", 2)])
def test_a_crashing_message_among_many_is_dead_lettered_with_the_reason_after_max_crashes(
    crashing: CrashingServices, queue: str, deaths: int
) -> None:
    dead_letters = crashing.dead_letters(queue, 1)
    assert set(dead_letters) == {"poison"}
    headers = dead_letters["poison"]
    assert headers["x-crashes"] == deaths
    assert headers["x-signal"] == "SIGSEGV"
    times = {2: "twice", 3: "3 times"}[deaths]
    assert headers["x-last-error"].startswith(f"Crashed: the message crashed its worker {times}, killed by SIGSEGV")
    assert crashing.handled(queue).count("poison") == deaths, "it killed no more workers than max_crashes"
    assert crashing.vhost.ready(f"{queue}.dlq") == 1
    assert crashing.runner.output.count(f"while handling message poison of {queue},") == deaths
    # Only the first death counts as a failure of the service, which may fail once.
    assert f"{queue}.1 FATAL" not in crashing.runner.output


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("queue", "ways"), [("ways", WAYS), ("hung", HUNG)])
def test_a_message_that_kills_its_worker_in_any_way_is_dead_lettered_and_its_neighbours_are_handled(
    crashing: CrashingServices, queue: str, ways: dict[str, tuple[str, str, int]]
) -> None:
    dead_letters = crashing.dead_letters(queue, len(ways))
    handled = crashing.handled(queue)
    assert set(dead_letters) == set(ways), "a message is not blamed for a kill from outside"
    for how, (reason, name, deaths) in ways.items():
        headers = dead_letters[how]
        assert headers["x-crashes"] == deaths
        assert headers["x-signal"] == name
        times = {1: "once", 4: "4 times"}[deaths]
        assert headers["x-last-error"].startswith(f"Crashed: the message crashed its worker {times}, {reason}")
        assert handled.count(how) == deaths
    assert handled.count(INNOCENT) == (3 if queue == "ways" else 0)
    assert crashing.vhost.ready(f"{queue}.dlq") == len(ways)


@pytest.mark.timeout(180)
def test_of_several_unacked_messages_only_the_crashing_message_is_dead_lettered(crashing: CrashingServices) -> None:
    dead_letters = crashing.dead_letters("several", 1)
    assert set(dead_letters) == {"poison"}
    crashing.handled("several")
    assert crashing.vhost.ready("several.dlq") == 1
    # The first crash says little, because other messages were unacked too. Then the message was alone.
    assert crashing.runner.output.count("several.1 killed by SIGSEGV while handling message poison of several,") == 3


def test_a_sigterm_of_another_process_is_no_failure_of_the_service(crashing: CrashingServices) -> None:
    for count in range(1, 4):
        os.kill(crashing.runner.pid_of("idle.1", count=count), signal.SIGTERM)
        crashing.runner.wait_for("idle.1 exited with status 143 after SIGTERM: restarting", count=count)
    crashing.runner.pid_of("idle.1", count=4)
    assert "idle.1 FATAL" not in crashing.runner.output
