"""Rounds of orders through a shop whose processes exit at failpoints, and the verdict on all rounds."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chaos.checker import Broker, Database, Verdict, judge
from tests.chaos.client import Client, read_answers
from tests.chaos.failpoint import Failpoints, Point
from tests.chaos.queue import bad_type
from tests.chaos.shop import Shop
from tests.rabbit import Vhost, wait_until
from tests.running import ROOT, Runner

#: Orders per round. For some of them the gateway does not respond.
ORDERS = 6
#: The share of attempts for which the gateway does not respond: too few to dead-letter an order.
SOME = 0.25
#: Seconds without any change after which nothing more will change: longer than the longest retry delay.
STILL = 4.0
DEAD_LETTERS = "payment.order.created.dlq"
#: Seconds before more orders are sent if a process has not reached its failpoint.
MORE = 1.0
GARBAGE = '["no", "order"]'


class Rounds:
    """A shop on a broker that receives a few orders per round."""

    def __init__(self, folder: Path, vhost: Vhost, database: str, source: Path = ROOT) -> None:
        """Create the shop. ``source`` is the tree whose ``runner`` and ``plugins`` run."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vhost, self.folder = vhost, folder
        self.shop = Shop(folder / "shop", database, source)
        self.shop.options("payment", timeout_rate=SOME, latency="1ms")
        topology = self.shop.topology()
        topology["queues"]["payment.order.created"]["retry"] = [f"{ms}ms" for ms in range(100, 800, 100)]
        self.shop.set_topology(topology)
        self.points = Failpoints(folder / "points")
        self.environment: Mapping[str, str] = self.points.environment(source)
        self.log = folder / "client.jsonl"
        self.poison: list[dict[str, Any]] = []
        self.client = Client("fp", self.log, seed=1)
        self._database = Database(database)
        self._broker = Broker(vhost.rabbit.management, vhost.rabbit.url, vhost.name)
        self._keys = itertools.count()

    def start(self) -> Runner:
        """Start the shop."""
        runner = self.shop.run(url=self.vhost.url, env=dict(self.environment))
        runner.wait_for("everything is RUNNING", 90)
        self.runner = runner
        return runner

    def order(self, count: int = ORDERS) -> None:
        """Send ``count`` orders at the same time, to both ports in turn, until they are accepted."""
        orders = [(f"fp-{number}", 1000 + number) for number in itertools.islice(self._keys, count)]
        threads = [
            threading.Thread(target=self.client.order, args=(key, hundredths, self.shop.doors[number % 2]))
            for number, (key, hundredths) in enumerate(orders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def publish_bad(self, queue: str) -> str:
        """Publish a message that no handler can handle. Return its id."""
        name = f"bad-{next(self._keys)}"
        properties = {"message_id": name, "delivery_mode": 2, "type": bad_type(queue)}
        message = {
            "routing_key": queue, "payload": GARBAGE, "payload_encoding": "string", "properties": properties,
        }  # fmt: skip
        path = f"/exchanges/{self.vhost.name}/amq.default/publish"
        wait_until(lambda: self.vhost.rabbit.api("POST", path, message)["routed"], 10, "the broker has the message")
        self.poison += [{"id": name, "queue": queue, "sure": is_sure} for is_sure in (False, True)]
        return name

    def end_at(self, *points: Point) -> None:
        """Make one process of each service exit at its point while it handles orders."""
        for point in points:
            self.points.arm(point)
            if point.step == "dead-letter publish":
                self.publish_bad(queue_of(point.service))
        self.order()
        due = time.monotonic() + MORE

        def missing() -> list[Point]:
            return [one for one in points if not self.points.has_fired(one)]

        def have_fired() -> bool:
            nonlocal due
            if missing() and time.monotonic() > due:
                # The id of an order decides its way, and the first orders may have missed the point.
                self.order(2)
                due = time.monotonic() + MORE
            return not missing()

        wait_until(have_fired, 40, f"a process exits at each of {', '.join(map(str, points))}")

    def verdict(self) -> Verdict:
        """Return the current verdict."""
        return judge(read_answers([self.log]), self.poison, self._database, self._broker)

    def settled(self, timeout: float = 40.0) -> Verdict:
        """Return the verdict when it is good, when nothing has changed for a while, or after ``timeout`` seconds.

        Unacked messages are not in their queues. Check again after the runner has stopped.
        """
        deadline = time.monotonic() + timeout
        last, since = "", time.monotonic()
        while (found := self.verdict()).violations and time.monotonic() < deadline:
            if shown(found) != last:
                last, since = shown(found), time.monotonic()
            if time.monotonic() > since + STILL:
                return found
            time.sleep(0.1)
        return found

    def dead_letter_orders(self, count: int) -> None:
        """Send ``count`` orders whose payments all fail.

        Wait until they are dead-lettered, then let payments succeed again.
        """
        before = self.vhost.ready(DEAD_LETTERS)
        self._have_payments_fail(1.0)
        self.order(count)
        wait_until(lambda: self.vhost.ready(DEAD_LETTERS) == before + count, 60, "all are dead-lettered")
        self._have_payments_fail(SOME)

    def _have_payments_fail(self, rate: float) -> None:
        self.shop.options("payment", timeout_rate=rate)
        code, output = self.shop.call("reload", url=self.vhost.url)
        assert code == 0, output

    def dead_lettered_orders(self) -> int:
        """Return the current number of good dead letters."""
        bad = {one["id"] for one in self.poison}
        return sum(one["properties"]["message_id"] not in bad for one in self.vhost.messages(DEAD_LETTERS))

    def replay(self, *words: str) -> int:
        """Replay all dead letters. Return the exit code."""
        return self.tell("dlq", "replay", "--all", *words)

    def ports_with_losses(self) -> set[int]:
        """Return the ports at which an order was answered 202 but never charged."""
        charged = {row.order_id for row in self._database.rows("SELECT order_id FROM charges")}
        return {one.port for one in read_answers([self.log]) if one.status == 202 and one.order_id not in charged}

    def tell(self, *words: str) -> int:
        """Run a command of the product. Return its exit code."""
        return self.shop.run(*words, url=self.vhost.url, env=dict(self.environment)).process.wait(60)

    def close(self) -> None:
        """Stop the shop, and close the client and the database."""
        self.shop.close()
        self.client.close()
        self._database.close()


def queue_of(service: str) -> str:
    """Return the queue of a service for bad messages."""
    return {"payment": "payment.order.created", "notification": "notification.order.events"}.get(
        service, f"{service}.events"
    )


def shown(verdict: Verdict) -> str:
    """Return a verdict as text."""
    return json.dumps({"violations": verdict.violations, "figures": verdict.figures}, indent=2)
