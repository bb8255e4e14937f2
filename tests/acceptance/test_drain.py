"""A queue with many messages is replaced. The process that replaces it is killed three times."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from tests.amqp import Message, channel_to, drained, publish_all
from tests.chaos.proxy import Proxy
from tests.proof import times
from tests.rabbit import Vhost, wait_until
from tests.running import Runner
from tests.topologies import Shop

MESSAGES = times(4_000, 100_000)
#: Bytes of each message's body.
BODY = 100
RUNNER, REPLACE = (sys.executable, "-m", "runner"), ("apply", "--replace", "work", "--drain")


def numbered(count: int) -> Iterator[Message]:
    """Yield persistent messages with their numbers as ids."""
    for number in range(count):
        yield "shop", "work", b"x" * BODY, pika.BasicProperties(message_id=str(number), delivery_mode=2)


def take_all(url: str, queue: str) -> list[tuple[int, bool]]:
    """Return the numbers of a queue's messages in order, each with its redelivered flag."""
    with channel_to(url) as channel:
        return [
            (int(properties.message_id), bool((properties.headers or {}).get("x-redelivered")))
            for _, properties, _ in drained(channel, queue)
        ]


def topology(kind: str) -> dict[str, Any]:
    return {"exchanges": {"shop": {"type": "direct"}}, "queues": {"work": {"type": kind, "bind": {"shop": ["work"]}}}}


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
    """Yield a proxy before the broker that only the drain uses."""
    one = Proxy([("127.0.0.1", int(urlsplit(vhost.url).port or 0))])
    yield one
    one.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("before", "after"), [("classic", "quorum"), ("quorum", "classic")])
def test_a_drain_that_is_killed_three_times_loses_nothing_and_marks_all_duplicates(
    tmp_path: Path, vhost: Vhost, proxy: Proxy, before: str, after: str
) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write(topology(before))
    assert shop.run("apply")[0] == 0
    publish_all(vhost.url, numbered(MESSAGES))
    shop.write(topology(after))
    # The same project, except that it reaches the broker through the proxy.
    slow = Shop(tmp_path / "slow", vhost)
    slow.config["broker"]["url"] = vhost.url.replace(f":{urlsplit(vhost.url).port}/", f":{proxy.ports[0]}/")
    slow.write(topology(after))
    wait_until(lambda: any(one["messages"] == MESSAGES for one in shop.plan()["changes"]), 20, "the count is known")
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(3):
        # The kill comes at a random byte of the work, not of the start. Each message passes the proxy at least four
        # times, from the old queue to a temporary queue and from there to the new queue. So the drain cannot complete
        # before the kill, however fast the machine is.
        proxy.blackhole_after(chance.randrange(20_000, BODY * 4 * MESSAGES // 3))
        drain = Runner([*RUNNER, "--project", str(slow.folder), *REPLACE], tmp_path)
        wait_until(lambda: proxy.is_black, 60, "the bytes are used up")
        assert drain.stop(signal.SIGKILL) == -signal.SIGKILL
        proxy.heal()
        assert shop.plan()["changes"], "the rest is still to be done"
    last = Runner([*RUNNER, "--project", str(shop.folder), *REPLACE], tmp_path)
    assert last.process.wait(200) == 0, last.output
    assert [one for one in shop.plan()["changes"] if one["mark"] != "?"] == []
    assert vhost.queues()["work"]["type"] == after
    found = take_all(vhost.url, "work")
    counted = Counter(number for number, _ in found)
    assert set(counted) == set(range(MESSAGES)), "nothing is lost"
    flagged = {number for number, is_flagged in found if is_flagged}
    assert {number for number, times in counted.items() if times > 1} <= flagged, (
        "every duplicate has the redelivered flag"
    )
    assert len(found) - MESSAGES <= 3 * 500 * 2, "only messages that were in flight at a kill"
    first = list(dict.fromkeys(number for number, _ in found))
    assert first == sorted(first), "the order is kept"
    assert Counter(one["routing_key"] for one in vhost.bindings()) == {"work": 1}
