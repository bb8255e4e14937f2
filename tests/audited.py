"""A database with the rows that audit writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from sqlalchemy import Engine, insert

from runner.history.recording import set_statuses
from runner.history.tables import attempts, events
from tests.running import ROOT, Project

T0 = 1_700_000_000_000
#: The settings of the shipped plugins.
STATUSES = {"order.created": "accepted", "payment.success": "paid", "payment.failed": "declined"}


def turn_on(project: Project, url: str | None = None) -> None:
    """Turn audit on, as in the shipped files."""
    topology, config = project.topology(), project.config()
    shipped_topology = yaml.safe_load((ROOT / "topology.yaml").read_text())
    shipped_config = yaml.safe_load((ROOT / "config.yaml").read_text())
    topology["queues"]["audit.events"] = shipped_topology["queues"]["audit.events"]
    config["services"]["audit"] = shipped_config["services"]["audit"]
    if url is not None:
        config["store"] = {"url": url}
    project.set_topology(topology)
    project.set_config(config)


def fill(engine: Engine, orders: Sequence[str], distance: int = 50) -> None:
    """Write orders that were dead-lettered, replayed and paid. Each is ``distance`` ms after the order before."""
    with engine.begin() as connection:
        set_statuses(connection, STATUSES)
        connection.execute(insert(events), [row for n, one in enumerate(orders) for row in _events(one, n * distance)])
        connection.execute(
            insert(attempts), [row for n, one in enumerate(orders) for row in _attempts(one, n * distance)]
        )


def _events(order: str, at: int) -> list[dict[str, Any]]:
    about = {"order_id": order, "content_type": "application/json", "headers": {"x-sent-at": T0 + at}}
    body = f'{{"order_id":"{order}","amount":"149.99"}}'
    made = {"type": "order.created", "exchange": "orders.topic", "routing_key": "order.created", "app_id": "order_api"}
    paid = {"type": "payment.success", "exchange": "payments.topic", "routing_key": "payment.success"}
    return [
        {**about, **made, "id": f"{order}-c", "published_at": T0 + at, "causation_id": None, "body": body},
        {
            **about, **paid, "id": f"{order}-p", "published_at": T0 + at + 5050, "causation_id": f"{order}-c",
            "app_id": "payment", "body": body,
        },
    ]  # fmt: skip


def _attempts(order: str, at: int) -> list[dict[str, Any]]:
    about = {
        "order_id": order, "message_id": f"{order}-c", "message_type": "order.created", "redelivered": False,
        "queue": "payment.order.created", "service": "payment", "instance": "payment.1", "replayed_at": None,
        "error": None, "delay": None, "replays": 0,
    }  # fmt: skip

    def times(sent: int, began: int) -> dict[str, int]:
        return {"sent_at": T0 + at + sent, "began_at": T0 + at + began, "ended_at": T0 + at + began + 50}

    timed_out = {"error": "gateway timed out"}
    return [
        {**about, **timed_out, **times(0, 5), "id": f"{order}-1", "attempt": 1, "outcome": "retried", "delay": 1000},
        {**about, **timed_out, **times(55, 1060), "id": f"{order}-2", "attempt": 2, "outcome": "dead_lettered"},
        {
            **about, **times(4990, 5000), "id": f"{order}-3", "attempt": 1, "outcome": "handled", "replays": 1,
            "replayed_at": T0 + at + 4990,
        },
    ]  # fmt: skip
