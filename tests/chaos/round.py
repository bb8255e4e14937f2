"""A round of orders through a shop whose processes end at failpoints, and the judgement of all rounds."""

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

#: Some of a round's orders meet with a gateway that does not answer.
ORDERS = 6
#: The share of tries whose gateway does not answer, so few that hardly any order is parked for it.
SOME = 0.25
#: Seconds in which something moves where anything is under way: longer than the longest wait for a next try.
STILL = 4.0
PARKED = "payment.order.created.dlq"
#: Seconds before some more are sent where the process has not come to its failpoint.
MORE = 1.0
GARBAGE = '["no", "order"]'


class Rounds:
    """One shop on a broker, some orders at a time."""

    def __init__(self, folder: Path, vhost: Vhost, database: str, source: Path = ROOT) -> None:
        """``source`` is the tree whose ``runner`` and ``plugins`` run."""
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
        """Run the shop."""
        runner = self.shop.run(url=self.vhost.url, env=dict(self.environment))
        runner.wait_for("everything is RUNNING", 90)
        self.runner = runner
        return runner

    def order(self, count: int = ORDERS) -> None:
        """Have so many orders taken, by both doors in turn, all at once."""
        orders = [(f"fp-{number}", 1000 + number) for number in itertools.islice(self._keys, count)]
        threads = [
            threading.Thread(target=self.client.order, args=(key, hundredths, self.shop.doors[number % 2]))
            for number, (key, hundredths) in enumerate(orders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def park(self, queue: str) -> str:
        """Put a message into a queue that nobody can handle; returns its id."""
        name = f"bad-{next(self._keys)}"
        properties = {"message_id": name, "delivery_mode": 2, "type": bad_type(queue)}
        message = {
            "routing_key": queue, "payload": GARBAGE, "payload_encoding": "string", "properties": properties,
        }  # fmt: skip
        path = f"/exchanges/{self.vhost.name}/amq.default/publish"
        wait_until(lambda: self.vhost.rabbit.api("POST", path, message)["routed"], 10, "the broker has it")
        self.poison += [{"id": name, "queue": queue, "sure": is_sure} for is_sure in (False, True)]
        return name

    def end_at(self, *points: Point) -> None:
        """Have processes end there, of one service each, while they handle orders."""
        for point in points:
            self.points.arm(point)
            if point.step == "dead-letter publish":
                self.park(queue_of(point.service))
        self.order()
        due = time.monotonic() + MORE

        def missing() -> list[Point]:
            return [one for one in points if not self.points.has_fired(one)]

        def have_fired() -> bool:
            nonlocal due
            if missing() and time.monotonic() > due:
                # Which orders meet with what is drawn by their ids, and these may have met with something else.
                self.order(2)
                due = time.monotonic() + MORE
            return not missing()

        wait_until(have_fired, 40, f"a process ends at each of {', '.join(map(str, points))}")

    def verdict(self) -> Verdict:
        """What can be said now."""
        return judge(read_answers([self.log]), self.poison, self._database, self._broker)

    def settled(self, timeout: float = 40.0) -> Verdict:
        """The verdict once it is good, or once nothing has moved for a while; at the latest after so many seconds.

        What is in somebody's hands is no more in its queue: judge again when the runner has stopped.
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

    def park_orders(self, count: int) -> None:
        """Have orders taken whose payments all fail, and mend the payments when they are parked."""
        before = self.vhost.ready(PARKED)
        self._have_payments_fail(1.0)
        self.order(count)
        wait_until(lambda: self.vhost.ready(PARKED) == before + count, 60, "all are parked")
        self._have_payments_fail(SOME)

    def _have_payments_fail(self, rate: float) -> None:
        self.shop.options("payment", timeout_rate=rate)
        code, output = self.shop.call("reload", url=self.vhost.url)
        assert code == 0, output

    def parked_orders(self) -> int:
        """How many good messages are parked, as of now."""
        bad = {one["id"] for one in self.poison}
        return sum(one["properties"]["message_id"] not in bad for one in self.vhost.messages(PARKED))

    def replay(self, *words: str) -> int:
        """Replay what is parked; returns the exit code."""
        return self.tell("dlq", "replay", "--all", *words)

    def doors_that_lost(self) -> set[int]:
        """The ports where an order was answered 202 that was never charged."""
        charged = {row.order_id for row in self._database.rows("SELECT order_id FROM charges")}
        return {one.port for one in read_answers([self.log]) if one.status == 202 and one.order_id not in charged}

    def tell(self, *words: str) -> int:
        """Run a command of the product; returns its exit code."""
        return self.shop.run(*words, url=self.vhost.url, env=dict(self.environment)).process.wait(60)

    def close(self) -> None:
        """Close what is open, and end what a failed test left."""
        self.shop.close()
        self.client.close()
        self._database.close()


def queue_of(service: str) -> str:
    """The queue of a service to which a bad message is sent."""
    return {"payment": "payment.order.created", "notification": "notification.order.events"}.get(
        service, f"{service}.events"
    )


def shown(verdict: Verdict) -> str:
    """A verdict for people."""
    return json.dumps({"violations": verdict.violations, "figures": verdict.figures}, indent=2)
