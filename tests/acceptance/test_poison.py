"""One message kills every worker that gets it: it is parked with the reason, and all others are handled."""

from __future__ import annotations

import os
import signal

import pytest

from tests.jobs import publish, publish_all
from tests.rabbit import Vhost, wait_until
from tests.running import Project

#: The handler kills its own process in several ways; it also writes down which messages it was given.
DEADLY = """import ctypes, os, time
from runner import Event, hookimpl

@hookimpl
def handle(message):
    how = message.json()["do"]
    with open("handled", "a") as file:
        file.write(message.id + "\\n")
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "leave":
        os._exit(0)
    elif how == "grow":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1024)) * 10_000)
            time.sleep(0.005)
    elif how == "hang":
        time.sleep(600)
    return Event("done", {})
"""
WAYS = {
    "segfault": ("killed by SIGSEGV", "SIGSEGV", {}),
    "leave": ("exit 0 without having been told to", "", {}),
    "grow": ("killed by SIGKILL, took", "SIGKILL", {"memory_max": "128MiB"}),
    "hang": ("killed by SIGABRT, a handler has been at message poison", "SIGABRT", {"handler_timeout": "1s"}),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "kind"), [*((how, "quorum") for how in WAYS), ("segfault", "classic")])
def test_one_message_that_kills_its_workers_among_200_is_parked_with_the_reason_after_three_deaths(
    jobs: Project, vhost: Vhost, how: str, kind: str
) -> None:
    reason, signal, settings = WAYS[how]
    topology = jobs.topology()
    topology["defaults"] = {"queue_type": kind}
    jobs.set_topology(topology)
    jobs.plugin("jobs", DEADLY)
    runner = jobs.run("apply", url=vhost.url)
    assert runner.process.wait(30) == 0
    poison, good = {"poison": f'{{"do": "{how}"}}'}, '{"do": "work"}'
    publish_all(vhost, {f"good-{number}": good for number in range(100)} | poison)
    publish_all(vhost, {f"good-{number}": good for number in range(100, 200)})
    config = jobs.config()
    config["services"]["jobs"] |= {"instances": 2, "prefetch": 50, **settings}
    jobs.set_config(config)
    runner = jobs.run(url=vhost.url)
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 90, "the poison is parked")
    wait_until(lambda: vhost.ready("done") >= 200, 60, "all others are handled")
    headers = parked["properties"]["headers"]
    assert parked["properties"]["message_id"] == "poison"
    assert headers["x-crashes"] == 3
    assert headers["x-signal"] == signal
    assert headers["x-last-error"].startswith(f"Crashed: its worker died of it 3 times, {reason}")

    def handled() -> list[str]:
        return (jobs.folder / "handled").read_text().split()

    # A worker may die between an event and its ack, so that one message has two events.
    everything = {"poison", *(f"good-{number}" for number in range(200))}
    wait_until(lambda: set(handled()) == everything, 60, "each message is handled")
    assert handled().count("poison") == 3, "it killed no more workers than it may"
    assert vhost.ready("jobs.dlq") == 1
    assert runner.output.count("message poison of jobs was in hand") == 3
    assert "FATAL" not in runner.output
    assert runner.stop() == 0


def test_of_several_messages_in_hand_only_the_one_that_kills_is_parked(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", DEADLY.replace("return Event", "time.sleep(0.05)\n    return Event"))
    config = jobs.config()
    config["services"]["jobs"] |= {"concurrency": 8}
    jobs.set_config(config)
    assert jobs.run("apply", url=vhost.url).process.wait(30) == 0
    jobs_by_id = {f"good-{number}": '{"do": "work"}' for number in range(40)}
    publish_all(vhost, {**dict([*jobs_by_id.items()][:4]), "poison": '{"do": "segfault"}', **jobs_by_id})
    runner = jobs.run(url=vhost.url)
    (parked,) = wait_until(lambda: vhost.messages("jobs.dlq"), 60, "the poison is parked")
    assert parked["properties"]["message_id"] == "poison"
    wait_until(lambda: vhost.ready("done") >= 40, 60, "all others are handled")
    assert vhost.ready("jobs.dlq") == 1
    # The first time others were in hand too, which says little; then it was alone.
    assert runner.output.count("jobs.1 killed by SIGSEGV: message poison of jobs was in hand") == 4
    assert runner.stop() == 0


def test_messages_that_were_in_hand_when_somebody_killed_their_worker_are_not_blamed(
    jobs: Project, vhost: Vhost
) -> None:
    jobs.plugin(
        "jobs",
        """import os, signal
from runner import Event, hookimpl

@hookimpl
def handle(message):
    with open("tries", "a") as file:
        file.write("x")
    if os.path.getsize("tries") <= 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return Event("done", {})
""",
    )
    publish_later = jobs.run(url=vhost.url)
    publish_later.pid_of("jobs.1")
    publish(vhost, "{}", message_id="innocent")
    wait_until(lambda: vhost.messages("done"), 60, "it is handled in the end")
    assert not vhost.messages("jobs.dlq")
    assert publish_later.stop() == 0


def test_somebody_s_sigterm_is_no_failure_of_the_service(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", DEADLY)
    config = jobs.config()
    config["services"]["jobs"] |= {"backoff": {"max": "500ms"}}
    jobs.set_config(config)
    runner = jobs.run(url=vhost.url)
    for count in range(1, 8):
        os.kill(runner.pid_of("jobs.1", count=count), signal.SIGTERM)
        runner.wait_for("jobs.1 exit 143, ended by SIGTERM: restarting", count=count)
    runner.pid_of("jobs.1", count=8)
    assert "FATAL" not in runner.output
    assert runner.stop() == 0


def test_a_handler_that_ends_its_worker_with_a_code_of_ours_is_blamed_all_the_same(jobs: Project, vhost: Vhost) -> None:
    jobs.plugin("jobs", DEADLY.replace("os._exit(0)", "os._exit(75)"))
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish(vhost, '{"do": "leave"}', message_id="poison")
    publish(vhost, '{"do": "work"}', message_id="good")
    wait_until(lambda: vhost.messages("jobs.dlq"), 30)
    wait_until(lambda: vhost.messages("done"), 30)
    assert runner.stop() == 0
