"""``python -m tests.chaos.checker``: says whether every order was paid and told of once, and nothing else happened.

A process of its own that reads three things only: what clients wrote down of their answers, the store, and the broker.
It imports nothing of the product.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, text

from tests.chaos.client import Answer, read_answers

#: Ids that are shown of each fault that is found.
SHOWN = 5
DECIDED = {"payment.success", "payment.failed"}


@dataclass
class Verdict:
    """What was found; it holds where ``violations`` is empty."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    def refuse(self, what: str, ids: Iterable[object]) -> None:
        """Note a violation where there are any ids."""
        found = sorted(map(str, ids))
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self.violations.append(f"{len(found)} {what}: {', '.join(found[:SHOWN])}{more}")


class Database:
    """The store, read with plain SQL."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def rows(self, statement: str) -> Sequence[Any]:
        """All rows of a SELECT."""
        with self._engine.connect() as connection:
            return connection.execute(text(statement)).all()

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()


class Api:
    """RabbitMQ's HTTP API."""

    def __init__(self, url: str, vhost: str) -> None:
        self._url, self._vhost = url.rstrip("/"), quote(vhost, safe="")

    def _ask(self, path: str, body: Any = None) -> Any:
        login = base64.b64encode(b"guest:guest").decode()
        request = urllib.request.Request(
            f"{self._url}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def depths(self) -> dict[str, int]:
        """How many messages each queue holds, those in somebody's hands too; the broker's figures may be 5 s old."""
        return {one["name"]: one.get("messages", 0) for one in self._ask(f"queues/{self._vhost}")}

    def parked(self, queue: str) -> list[str]:
        """The ids of all messages of a queue, which stay there."""
        body = {"count": 100_000, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 10}
        found = self._ask(f"queues/{self._vhost}/{quote(queue, safe='')}/get", body)
        return [one["properties"].get("message_id", "") for one in found]


def judge(answers: Sequence[Answer], poison: Sequence[dict[str, Any]], database: Database, broker: Api) -> Verdict:
    """Compare what clients were told with what is there."""
    verdict = Verdict()
    accepted = {one.order_id: one for one in answers if one.status == 202}
    by_email = {one.email: one for one in answers}
    orders: dict[str, set[str]] = defaultdict(set)
    for one in answers:
        if one.status == 202:
            orders[one.key].add(one.order_id)
    verdict.refuse("keys got two orders", [key for key, ids in orders.items() if len(ids) > 1])
    charges = {row.order_id: row for row in database.rows("SELECT order_id, hundredths, reason FROM charges")}
    _judge_charges(verdict, accepted, charges)
    told: dict[str, Counter[str]] = defaultdict(Counter)
    emails = database.rows("SELECT order_id, type, recipient FROM emails")
    for row in emails:
        told[row.order_id][row.type] += 1
    verdict.refuse("e-mails went to nobody who ordered", {row.recipient for row in emails} - set(by_email))
    ordered: dict[str, set[str]] = defaultdict(set)
    for row in emails:
        ordered[row.recipient].add(row.order_id)
    verdict.refuse(
        "customers have more than the one order they sent", [who for who, ids in ordered.items() if len(ids) > 1]
    )
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for row in database.rows("SELECT order_id, type FROM points"):
        counted[row.order_id][row.type] += 1
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for row in database.rows("SELECT order_id, type FROM events WHERE order_id IS NOT NULL"):
        written[row.order_id][row.type] += 1
    for what, found in (("e-mails", told), ("points", counted), ("audited events", written)):
        _judge_kinds(verdict, what, accepted, charges, found)
    _judge_broker(verdict, poison, broker)
    unsent = database.rows("SELECT event_id FROM outbox WHERE sent_at IS NULL")
    verdict.refuse("events wait in the outbox", [row.event_id for row in unsent])
    verdict.figures = {
        "orders": len(by_email),
        "accepted": len(accepted),
        "requests": len(answers),
        "charges": len(charges),
        "emails": len(emails),
        "points": sum(sum(one.values()) for one in counted.values()),
        "poison": len(poison),
    }
    return verdict


def _judge_charges(verdict: Verdict, accepted: dict[str, Answer], charges: dict[str, Any]) -> None:
    verdict.refuse("orders were answered 202 and never charged", set(accepted) - set(charges))
    verdict.refuse(
        "orders were charged another amount",
        [order for order, one in accepted.items() if order in charges and charges[order].hundredths != one.hundredths],
    )


def _judge_kinds(
    verdict: Verdict, what: str, accepted: dict[str, Answer], charges: dict[str, Any], found: dict[str, Counter[str]]
) -> None:
    """Each order has one of ``order.created`` and one of how its payment went; an unanswered one at most."""
    twice, lacking, wrong = [], [], []
    for order in set(accepted) | set(charges) | set(found):
        counts = found.get(order, Counter())
        decided = sum(counts[kind] for kind in DECIDED)
        if max(counts["order.created"], decided) > 1:
            twice.append(f"{order} {dict(counts)}")
        if (order in accepted or order in charges) and min(counts["order.created"], decided) < 1:
            lacking.append(f"{order} {dict(counts)}")
        if order in charges and decided == 1:
            right = "payment.failed" if charges[order].reason else "payment.success"
            wrong += [] if counts[right] else [order]
    verdict.refuse(f"orders have {what} twice", twice)
    verdict.refuse(f"orders lack {what}", lacking)
    verdict.refuse(f"orders have {what} of another outcome than their charge", wrong)


def _judge_broker(verdict: Verdict, poison: Sequence[dict[str, Any]], broker: Api) -> None:
    for queue, depth in broker.depths().items():
        if not queue.endswith(".dlq"):
            verdict.refuse("queues still hold messages", [f"{queue} {depth}"] if depth else [])
            continue
        parked = Counter(broker.parked(queue))
        meant = {one["id"]: one["sure"] for one in poison if queue == f"{one['queue']}.dlq"}
        verdict.refuse(f"good messages are parked in {queue}", set(parked) - set(meant))
        lost = [one for one, is_sure in meant.items() if is_sure and one not in parked]
        verdict.refuse(f"bad messages are missing in {queue}", lost)


def main() -> int:
    """Judge; prints the verdict as JSON, and returns 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.checker", description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path, help="what the clients wrote down")
    parser.add_argument("--poison", type=Path, help="the bad messages, one JSON object a line: id, queue, sure")
    parser.add_argument("--store", required=True, help="the database's address")
    parser.add_argument("--broker", required=True, help="the address of RabbitMQ's HTTP API")
    parser.add_argument("--vhost", default="/")
    given = parser.parse_args()
    poison = []
    if given.poison is not None and given.poison.exists():
        poison = [json.loads(line) for line in given.poison.read_text().splitlines()]
    database = Database(given.store)
    verdict = judge(read_answers(given.logs), poison, database, Api(given.broker, given.vhost))
    database.close()
    print(json.dumps({"violations": verdict.violations, "figures": verdict.figures}, indent=2))
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
