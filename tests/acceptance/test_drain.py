"""A queue of 100,000 messages is replaced, and whoever does it is killed three times on the way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest

from runner.amqp.session import Session
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Runner
from tests.topologies import Shop

MESSAGES = times(40_000, 100_000)


def publish_all(url: str, count: int) -> None:
    """Publish numbered messages, pipelined and confirmed."""
    confirmed = 0

    def on_confirm(frame: Any) -> None:
        nonlocal confirmed
        confirmed = max(confirmed, frame.method.delivery_tag)
        if confirmed == count:
            session.finish()

    def on_channel(channel: Any) -> None:
        channel.confirm_delivery(on_confirm)
        for number in range(count):
            properties = pika.BasicProperties(message_id=str(number), delivery_mode=2)
            channel.basic_publish("shop", "work", b"x" * 100, properties)

    session = Session(url, "test publisher", on_channel)
    session.run(60)


def take_all(url: str, queue: str) -> list[tuple[int, bool]]:
    """The numbers of a queue's messages in their order, each with whether it says that it was delivered before."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=2000)
    found = []
    for method, properties, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=2):
        if method is None:
            break
        found.append((int(properties.message_id), bool((properties.headers or {}).get("x-redelivered"))))
    connection.close()
    return found


def is_over(instant: float) -> bool:
    return time.monotonic() > instant


def topology(kind: str) -> dict[str, Any]:
    return {"exchanges": {"shop": {"type": "direct"}}, "queues": {"work": {"type": kind, "bind": {"shop": ["work"]}}}}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("before", "after"), [("classic", "quorum"), ("quorum", "classic")])
def test_a_drain_that_is_killed_three_times_loses_nothing_and_doubles_only_what_it_says(
    tmp_path: Path, vhost: Vhost, before: str, after: str
) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write(topology(before))
    assert shop.run("apply")[0] == 0
    publish_all(vhost.url, MESSAGES)
    shop.write(topology(after))
    command = [sys.executable, "-m", "runner", "--project", str(shop.folder), "apply", "--replace", "work", "--drain"]
    wait_until(lambda: any(one["messages"] == MESSAGES for one in shop.plan()["changes"]), 20, "the count is known")
    for _ in range(3):
        drain = Runner(command, shop.folder)
        # At a random instant of the work, and not of the start: it says once a second how far it is.
        drain.wait_for(r"\d+ of \d+ moved to ", 60)
        instant = time.monotonic() + random.uniform(0.0, 1.5)
        wait_until(partial(is_over, instant), 10)
        assert drain.stop(signal.SIGKILL) == -signal.SIGKILL, "it was done before it could be killed"
        plan = shop.plan()
        assert ("!", "queue", "work") in {(one["mark"], one["kind"], one["name"]) for one in plan["changes"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shop.plan()["changes"] == []
    assert vhost.queues()["work"]["type"] == after
    found = take_all(vhost.url, "work")
    counted = Counter(number for number, _ in found)
    assert set(counted) == set(range(MESSAGES)), "nothing is lost"
    flagged = {number for number, is_flagged in found if is_flagged}
    assert {number for number, times in counted.items() if times > 1} <= flagged, "no message is doubled silently"
    assert len(found) - MESSAGES <= 3 * 500 * 2, "only what was at hand when it was killed"
    first = list(dict.fromkeys(number for number, _ in found))
    assert first == sorted(first), "the order is kept"
    assert Counter(one["routing_key"] for one in vhost.bindings()) == {"work": 1}
