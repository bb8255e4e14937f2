"""The command ``python -m tests.chaos.checker``: checks that every order was charged and reported once, and no more.

It is a separate process with three inputs: the logs of the clients, the store, and the broker. It imports no code of
the
product.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import sys
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
from sqlalchemy import create_engine, text

from tests.chaos.client import Answer, read_answers
from tests.chaos.queue import QUEUES

#: The number of ids that are shown for each violation.
SHOWN = 5
DECIDED = {"payment.success", "payment.failed"}


@dataclass
class Verdict:
    """The result of the checks. A run is correct if ``violations`` is empty."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    def refuse(self, what: str, ids: Iterable[object]) -> None:
        """Add a violation if there are any ids."""
        found = sorted(map(str, ids))
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self.violations.append(f"{len(found)} {what}: {', '.join(found[:SHOWN])}{more}")


class Database:
    """The store, read with plain SQL."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def rows(self, statement: str) -> Sequence[Any]:
        """Return all rows of a SELECT."""
        with self._engine.connect() as connection:
            return connection.execute(text(statement)).all()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


class Broker:
    """The state of RabbitMQ: queue names and dead letters from its HTTP API, current message counts from AMQP."""

    def __init__(self, management: str, amqp: str, vhost: str) -> None:
        """Set the addresses. ``amqp`` is an address without a vhost."""
        self._url, self._vhost = management.rstrip("/"), quote(vhost, safe="")
        self._amqp = pika.URLParameters(f"{amqp.rstrip('/')}/{self._vhost}")

    def _ask(self, path: str, body: Any = None) -> Any:
        login = base64.b64encode(b"guest:guest").decode()
        request = urllib.request.Request(
            f"{self._url}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def depths(self) -> dict[str, int]:
        """Return the number of ready messages in each queue, without unacked messages.

        The figures of the HTTP API are some seconds old, and are missing after a start. So this method asks each queue
        by AMQP. Raises OSError and AMQPError.
        """
        names = [one["name"] for one in self._ask(f"queues/{self._vhost}?columns=name")]
        with contextlib.closing(pika.BlockingConnection(self._amqp)) as connection:
            channel = connection.channel()
            return {name: channel.queue_declare(name, passive=True).method.message_count for name in names}

    def dead_letters(self, queue: str) -> list[str]:
        """Return the ids of all messages of a queue, and leave the messages there."""
        body = {"count": 100_000, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 10}
        found = self._ask(f"queues/{self._vhost}/{quote(queue, safe='')}/get", body)
        return [one["properties"].get("message_id", "") for one in found]


def judge(answers: Sequence[Answer], poison: Sequence[dict[str, Any]], database: Database, broker: Broker) -> Verdict:
    """Compare the answers to the clients with the store and the broker."""
    verdict = Verdict()
    sent = {one.email: one for one in answers}
    accepted = {one.order_id: one for one in answers if one.status == 202}
    verdict.refuse("customers never got a 202", set(sent) - {one.email for one in accepted.values()})
    orders: dict[str, set[str]] = defaultdict(set)
    for one in accepted.values():
        orders[one.key].add(one.order_id)
    verdict.refuse("keys got two orders", [key for key, ids in orders.items() if len(ids) > 1])
    if not accepted:
        verdict.violations.append("no order was answered 202")
    rows = database.rows("SELECT order_id, ten_thousandths / 100 AS hundredths, reason FROM charges")
    charges = {row.order_id: row for row in rows}
    verdict.refuse(
        "orders were charged twice", [one for one, count in Counter(row[0] for row in rows).items() if count > 1]
    )
    verdict.refuse("orders were answered 202 and never charged", set(accepted) - set(charges))
    emails = database.rows("SELECT order_id, type, recipient FROM emails")
    _judge_customers(verdict, sent, accepted, charges, emails)
    reported = _counted(emails)
    points = database.rows("SELECT order_id, type FROM points")
    written = database.rows("SELECT order_id, type FROM events")
    for what, found in (("e-mails", reported), ("points", _counted(points)), ("audited events", _counted(written))):
        _judge_kinds(verdict, what, accepted, charges, found)
    _judge_broker(verdict, poison, broker)
    unsent = database.rows("SELECT event_id FROM outbox WHERE sent_at IS NULL")
    verdict.refuse("events wait in the outbox", [row.event_id for row in unsent])
    verdict.figures = {
        "orders": len(sent),
        "accepted": len(accepted),
        "requests": len(answers),
        "charges": len(rows),
        "emails": len(emails),
        "points": len(points),
        "poison": len({one["id"] for one in poison}),
    }
    return verdict


def _counted(rows: Sequence[Any]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[row.order_id or "no order"][row.type] += 1
    return found


def _judge_customers(
    verdict: Verdict,
    sent: dict[str, Answer],
    accepted: dict[str, Answer],
    charges: dict[str, Any],
    emails: Sequence[Any],
) -> None:
    """Check that each order has the customer and amount of its request, even if the client received no answer."""
    verdict.refuse("e-mails went to addresses without an order", {row.recipient for row in emails} - set(sent))
    wrong = [
        row.order_id for row in emails if row.order_id in accepted and accepted[row.order_id].email != row.recipient
    ]
    verdict.refuse("orders were reported to another customer", set(wrong))
    ordered: dict[str, set[str]] = defaultdict(set)
    for row in emails:
        ordered[row.recipient].add(row.order_id)
    doubled = [who for who, ids in ordered.items() if len(ids) > 1]
    verdict.refuse("customers have more orders than they sent", doubled)
    amounts = {row.order_id: sent[row.recipient].hundredths for row in emails if row.recipient in sent}
    other = [one for one, row in charges.items() if one in amounts and amounts[one] != row.hundredths]
    verdict.refuse("orders were charged another amount", other)


def _judge_kinds(
    verdict: Verdict, what: str, accepted: dict[str, Answer], charges: dict[str, Any], found: dict[str, Counter[str]]
) -> None:
    """Check that each known order has one ``order.created``, one payment outcome, and nothing else."""
    twice, lacking, wrong = [], [], []
    for order in set(accepted) | set(charges) | set(found):
        counts = found.get(order, Counter())
        decided = sum(counts[kind] for kind in DECIDED)
        if max(counts["order.created"], decided) > 1:
            twice.append(f"{order} {dict(counts)}")
        if min(counts["order.created"], decided) < 1:
            lacking.append(f"{order} {dict(counts)}")
        if order in charges and decided == 1:
            right = "payment.failed" if charges[order].reason else "payment.success"
            wrong += [] if counts[right] else [order]
    verdict.refuse(f"orders have {what} twice", twice)
    verdict.refuse(f"orders lack {what}", lacking)
    verdict.refuse(f"orders have {what} with another outcome than their charge", wrong)
    verdict.refuse(f"orders have {what} but no charge", set(found) - set(charges))
    others = {kind for counts in found.values() for kind in counts} - DECIDED - {"order.created"}
    verdict.refuse(f"{what} are of another type", others)


def _judge_broker(verdict: Verdict, poison: Sequence[dict[str, Any]], broker: Broker) -> None:
    depths = broker.depths()
    wanted = {*QUEUES, *(f"{queue}.dlq" for queue in QUEUES)}
    verdict.refuse("queues do not exist", wanted - set(depths))
    held = [f"{queue} {depth}" for queue, depth in depths.items() if depth and not queue.endswith(".dlq")]
    verdict.refuse("queues still contain messages", held)
    for queue in sorted(one for one in depths if one.endswith(".dlq")):
        # A worker that exits between the copy and its ack dead-letters the message again, with the same id.
        dead_lettered = set(broker.dead_letters(queue))
        meant = {one["id"] for one in poison if queue == f"{one['queue']}.dlq"}
        # The broker has confirmed these messages.
        sure = {one["id"] for one in poison if one["sure"] and queue == f"{one['queue']}.dlq"}
        verdict.refuse(f"good messages are dead-lettered in {queue}", dead_lettered - meant)
        verdict.refuse(f"bad messages are missing in {queue}", sure - dead_lettered)


def main() -> int:
    """Check, and print the verdict as JSON. Return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.checker", description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path, help="the logs of the clients")
    parser.add_argument("--poison", type=Path, help="the bad messages, one JSON object a line: id, queue, sure")
    parser.add_argument("--store", required=True, help="the address of the database")
    parser.add_argument("--management", required=True, help="the address of RabbitMQ's HTTP API")
    parser.add_argument("--amqp", required=True, help="the AMQP address of RabbitMQ, without a vhost")
    parser.add_argument("--vhost", default="/")
    given = parser.parse_args()
    poison = []
    if given.poison is not None and given.poison.exists():
        poison = [json.loads(line) for line in given.poison.read_text().splitlines()]
    database = Database(given.store)
    verdict = judge(read_answers(given.logs), poison, database, Broker(given.management, given.amqp, given.vhost))
    database.close()
    print(json.dumps({"violations": verdict.violations, "figures": verdict.figures}, indent=2))
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
