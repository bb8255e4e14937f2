"""The checker reports each kind of violation, and none if all is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.chaos.checker import Broker, Database, Verdict, judge
from tests.chaos.client import Answer
from tests.chaos.queue import QUEUES

TABLES = """
CREATE TABLE charges (order_id TEXT, ten_thousandths INT, reason TEXT);
CREATE TABLE emails (order_id TEXT, type TEXT, recipient TEXT);
CREATE TABLE points (order_id TEXT, type TEXT);
CREATE TABLE events (order_id TEXT, type TEXT);
CREATE TABLE outbox (event_id TEXT, sent_at INT);
"""
BAD = [{"id": "bad-1", "queue": "points.events", "sure": is_sure} for is_sure in (False, True)]


class FakeBroker(Broker):
    """The answers of a broker."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", "amqp://nowhere", "/")
        self.held = {name: 0 for queue in QUEUES for name in (queue, f"{queue}.dlq")}
        self.dead = ["bad-1"]

    def depths(self) -> dict[str, int]:
        return self.held

    def dead_letters(self, queue: str) -> list[str]:
        return self.dead if queue == "points.events.dlq" else []


class Shop:
    """A database, a broker and answers, all of them right."""

    def __init__(self, folder: Path) -> None:
        self._engine = create_engine(f"sqlite:///{folder}/shop.db")
        self.do(*TABLES.split(";"))
        self.broker = FakeBroker()
        self.answers = [Answer("k1", "k1@x", 100, 0, "", 1.0, 0.1), Answer("k1", "k1@x", 100, 202, "o1", 2.0, 0.1)]
        self.answers.append(Answer("k2", "k2@x", 200, 202, "o2", 2.0, 0.1))
        self.answers.append(Answer("k3", "k3@x", 300, 202, "o3", 2.0, 0.1))
        for number, outcome in ((1, "payment.success"), (2, "payment.failed"), (3, "payment.success")):
            reason = "'declined'" if outcome == "payment.failed" else "NULL"
            self.do(f"INSERT INTO charges VALUES ('o{number}', {number}0000, {reason})")
            for kind in ("order.created", outcome):
                self.do(f"INSERT INTO emails VALUES ('o{number}', '{kind}', 'k{number}@x')")
                self.do(f"INSERT INTO points VALUES ('o{number}', '{kind}')")
                self.do(f"INSERT INTO events VALUES ('o{number}', '{kind}')")

    def do(self, *statements: str) -> None:
        with self._engine.begin() as connection:
            for one in statements:
                if one.strip():
                    connection.execute(text(one))

    def judged(self) -> Verdict:
        database = Database(str(self._engine.url))
        try:
            return judge(self.answers, BAD, database, self.broker)
        finally:
            database.close()

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path)
    yield one
    one.close()


def test_a_correct_run_has_no_violation(shop: Shop) -> None:
    verdict = shop.judged()
    assert verdict.violations == []
    assert verdict.figures["accepted"] == 3
    assert verdict.figures["charges"] == 3


VIOLATIONS: dict[str, Callable[[Shop], object]] = {
    "1 orders were answered 202 and never charged: o1": lambda shop: shop.do("DELETE FROM charges WHERE order_id='o1'"),
    "1 orders were charged another amount: o2": lambda shop: shop.do(
        "UPDATE charges SET ten_thousandths=100 WHERE order_id='o2'"
    ),
    "1 orders lack e-mails: o1": lambda shop: shop.do(
        "DELETE FROM emails WHERE order_id='o1' AND type LIKE 'payment%'"
    ),
    "1 orders lack points: o3": lambda shop: shop.do("DELETE FROM points WHERE order_id='o3'"),
    "1 orders lack audited events: o2": lambda shop: shop.do("DELETE FROM events WHERE order_id='o2'"),
    "1 orders have points twice: o3": lambda shop: shop.do("INSERT INTO points VALUES ('o3', 'order.created')"),
    "1 orders have e-mails twice: o1": lambda shop: shop.do(
        "INSERT INTO emails VALUES ('o1', 'payment.failed', 'k1@x')"
    ),
    "1 orders have points with another outcome than their charge: o1": lambda shop: shop.do(
        "UPDATE points SET type='payment.failed' WHERE order_id='o1' AND type LIKE 'payment%'"
    ),
    "1 e-mails went to addresses without an order: k9@x": lambda shop: shop.do(
        "UPDATE emails SET recipient='k9@x' WHERE order_id='o3'"
    ),
    "1 customers have more orders than they sent: k3@x": lambda shop: shop.do(
        "INSERT INTO emails VALUES ('o4', 'order.created', 'k3@x')"
    ),
    "1 keys got two orders: k1": lambda shop: shop.answers.append(Answer("k1", "k1@x", 100, 202, "o3", 3.0, 0.1)),
    "1 customers never got a 202: k9@x": lambda shop: shop.answers.append(Answer("k9", "k9@x", 1, 503, "", 3.0, 0.1)),
    "no order was answered 202": lambda shop: shop.answers.clear(),
    "1 orders were charged twice: o1": lambda shop: shop.do("INSERT INTO charges VALUES ('o1', 10000, NULL)"),
    "2 orders were reported to another customer: o1, o2": lambda shop: shop.do(
        "UPDATE emails SET recipient = CASE order_id WHEN 'o1' THEN 'k2@x' WHEN 'o2' THEN 'k1@x' ELSE recipient END"
    ),
    "1 points are of another type: payment.lost": lambda shop: shop.do(
        "INSERT INTO points VALUES ('o1', 'payment.lost')"
    ),
    "1 orders have audited events but no charge: no order": lambda shop: shop.do(
        "INSERT INTO events VALUES (NULL, 'order.created')"
    ),
    "1 orders have e-mails but no charge: o3": lambda shop: shop.do("DELETE FROM charges WHERE order_id='o3'"),
    "1 queues do not exist: audit.events": lambda shop: shop.broker.held.pop("audit.events"),
    "1 queues still contain messages: points.events 2": lambda shop: shop.broker.held.update({"points.events": 2}),
    "1 good messages are dead-lettered in points.events.dlq: good": lambda shop: shop.broker.dead.append("good"),
    "1 bad messages are missing in points.events.dlq: bad-1": lambda shop: shop.broker.dead.clear(),
    "1 events wait in the outbox: e1": lambda shop: shop.do("INSERT INTO outbox VALUES ('e1', NULL)"),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_each_violation_is_reported_with_its_ids(shop: Shop, violation: str) -> None:
    VIOLATIONS[violation](shop)
    assert any(one.startswith(violation) for one in shop.judged().violations), shop.judged().violations
