"""Retries on a real broker: their delays, their effect on other queues, and a broker that is killed during them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pika import BasicProperties

from tests.amqp import publish_all
from tests.jobs import publish
from tests.machine import in_time
from tests.proof import QUEUE_TYPES, times
from tests.rabbit import Vhost, wait_until
from tests.running import Project

#: A handler that fails as often as the message's body requests, and records its messages.
FAILING = """import json, time
from runner import Event, hookimpl

@hookimpl
def handle(message):
    with open("attempts", "a") as file:
        about = [message.id, message.attempt, time.time(), dict(message.headers)]
        file.write(json.dumps(about, default=str) + "\\n")
    if message.attempt <= message.json()["fails"]:
        raise ValueError(f"failure {message.attempt}")
    return Event("done", {"id": message.id})
"""
DELAYS = (1.5, 2.5)


def attempts_of(project: Project) -> list[Any]:
    path = project.folder / "attempts"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_message_that_fails_k_times_is_retried_after_each_configured_delay_and_other_queues_get_it_once(
    jobs: Project, vhost: Vhost
) -> None:
    kinds = ("quorum", "classic")
    topology, config = jobs.topology(), jobs.config()
    del topology["queues"]["jobs"]
    for kind in kinds:
        topology["queues"][kind] = {"type": kind, "retry": ["1500ms", "2500ms"], "bind": {"work": [f"job.{kind}"]}}
    topology["queues"]["others"] = {"bind": {"work": ["job.#"]}}
    config["services"]["jobs"]["consumes"] = [*kinds]
    jobs.set_topology(topology)
    jobs.set_config(config)
    jobs.plugin("jobs", FAILING)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    publish_all(
        vhost.url,
        [
            (
                "work",
                f"job.{kind}",
                json.dumps({"fails": fails}).encode(),
                BasicProperties(message_id=f"{kind}-{fails}"),
            )
            for fails in range(4)
            for kind in kinds
        ],
    )
    dead_letters = []
    for kind in kinds:
        dead_letters += wait_until(partial(vhost.messages, f"{kind}.dlq"), 30, "failing messages are dead-lettered")
    wait_until(lambda: vhost.ready("done") == 6, 10, "the others succeed")
    attempts = attempts_of(jobs)
    most_late = {delay: in_time(0.2 * delay) for delay in DELAYS}
    for id, fails in ((f"{kind}-{fails}", fails) for fails in range(4) for kind in kinds):
        own = [one for one in attempts if one[0] == id]
        assert [attempt for _, attempt, _, _ in own] == list(range(1, min(fails, 2) + 2))
        for (_, _, before, _), (_, attempt, after, headers), delay in zip(own, own[1:], DELAYS, strict=False):
            late = after - before - delay
            assert 0 <= late <= most_late[delay], f"attempt {attempt} came after {after - before:.2f} s"
            assert headers["x-attempt"] == attempt
            assert headers["x-first-error"] == "ValueError: failure 1"
            assert headers["x-last-error"] == f"ValueError: failure {attempt - 1}"
    assert [one["properties"]["message_id"] for one in dead_letters] == [f"{kind}-3" for kind in kinds]
    assert {one["properties"]["headers"]["x-last-error"] for one in dead_letters} == {"ValueError: failure 3"}
    assert vhost.ready("others") == 8, "other queues get each event once"
    # After a replay the retry delays start again. This time the handler succeeds.
    (jobs.folder / "plugins" / "jobs.py").write_text(FAILING.replace('["fails"]', '["fails"] - 3'))
    for command in (["restart", "jobs"], ["dlq", "replay", "--all"]):
        code, output = jobs.call(*command, url=vhost.url)
        assert code == 0, output
    wait_until(lambda: vhost.ready("done") == 8, 20, "the replayed messages are handled")
    assert [vhost.ready(f"{kind}.dlq") for kind in kinds] == [0, 0]
    assert jobs.call("dlq", "list", url=vhost.url)[0] == 0
    assert runner.stop() == 0


MESSAGES, KILLS = times(60, 600), times(1, 12)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", QUEUE_TYPES)
def test_a_broker_that_is_killed_while_messages_wait_in_every_retry_queue_loses_none(
    jobs: Project, mortal: Vhost, kind: str
) -> None:
    vhost, rabbit = mortal, mortal.rabbit
    topology = jobs.topology()
    topology["defaults"] = {"queue_type": kind}
    topology["queues"]["jobs"]["retry"] = ["300ms", "700ms"]
    jobs.set_topology(topology)
    config = jobs.config()
    config["broker"]["autostart"] = False
    config["services"]["jobs"] |= {"concurrency": 4}
    jobs.set_config(config)
    jobs.plugin("jobs", FAILING)
    runner = jobs.run(url=vhost.url)
    runner.pid_of("jobs.1")
    published = 0
    stop = threading.Event()

    def keep_publishing() -> None:
        nonlocal published
        while not stop.is_set() and published < MESSAGES:
            try:
                publish(vhost, json.dumps({"fails": published % 4}), message_id=f"m-{published}", delivery_mode=2)
            except (AssertionError, OSError):
                continue  # the broker is unreachable, so the message is published again
            published += 1
            # The stream is steady, so that at each kill some messages wait in each retry queue.
            stop.wait(0.02)

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    try:
        for _ in range(KILLS):
            wait_until(after(random.uniform(0.8, 2.0)), 10)
            rabbit.kill()
            rabbit.start()
        thread.join(120)
    finally:
        stop.set()
        thread.join()
    assert published == MESSAGES
    good = {f"m-{number}" for number in range(MESSAGES) if number % 4 < 3}
    bad = {f"m-{number}" for number in range(MESSAGES) if number % 4 == 3}

    def ids(queue: str) -> set[str]:
        return {one["properties"].get("message_id") for one in vhost.messages(queue, 10_000)}

    def done() -> set[str]:
        return {json.loads(one["payload"])["id"] for one in vhost.messages("done", 10_000)}

    wait_until(lambda: good <= done(), 60, "every good message is handled")
    wait_until(lambda: bad <= ids("jobs.dlq"), 60, "every bad message is dead-lettered")
    assert ids("jobs.dlq") == bad
    print(
        f"{MESSAGES} messages, {KILLS} kills of the broker, {len(vhost.messages('done', 10_000)) - len(good)} doubles"
    )
    assert runner.stop() == 0


def after(seconds: float) -> Callable[[], bool]:
    due = time.monotonic() + seconds
    return lambda: time.monotonic() >= due
