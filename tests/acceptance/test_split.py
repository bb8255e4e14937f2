"""Services in separate runners, as in separate containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import psycopg

from tests.postgres import Postgres
from tests.rabbit import Vhost, wait_until
from tests.running import ALICE, Project, Runner

#: A runner for each service. The payment service runs twice, as with ``--scale payment-service=2``.
SERVICES = {
    "order": "order_api",
    "payment": "payment",
    "payment-2": "payment",
    "mail": "notification",
    "audit": "audit",
}
ORDERS = 5


def post_all(api: Project) -> None:
    """Post all orders except the first, each with its own key."""
    for number in range(1, ORDERS):
        headers: Any = {"Idempotency-Key": f"key-{number}"}
        assert api.post(ALICE | {"amount": number}, **headers)[0] == 202


def test_runners_with_one_service_each_charge_each_order_once(tmp_path: Path, vhost: Vhost, postgres: Postgres) -> None:
    address = postgres.make_database("split")
    (tmp_path / "url").write_text(f"{address}\n")
    shared = {"DATABASE_URL": "", "DATABASE_URL_FILE": str(tmp_path / "url"), "INBOX": "true"}
    projects = {name: Project(tmp_path / name, audit=True) for name in SERVICES}
    runners: dict[str, Runner] = {}
    try:
        for name, project in projects.items():
            project.options("payment", failure_rate=0.0)
            runners[name] = project.run("run", SERVICES[name], url=vhost.url, env=shared)
        for runner in runners.values():
            runner.wait_for("everything is RUNNING")
        api = projects["order"]
        order = api.first_order()
        runners["mail"].wait_for(f"Your order {order} is paid")
        post_all(api)
        with psycopg.connect(address, autocommit=True) as database:

            def count(rows: LiteralString) -> int:
                (found,) = database.execute(f"select count(*) from {rows}").fetchall()
                return int(found[0])

            wait_until(lambda: count("charges") == ORDERS, 20, "each order is charged")
            # The orders are posted only now, because two workers that get the same order at the same time both ask the
            # gateway.
            post_all(api)
            post_all(api)
            attempts = "attempts where service = 'payment'"
            wait_until(lambda: count(attempts) == ORDERS + 2 * (ORDERS - 1), 20, "each delivery is reported")
            assert count("charges") == ORDERS
        charged = [runners[name].output.count(": approved, payment ") for name in ("payment", "payment-2")]
        assert sum(charged) == ORDERS
        assert all(charged), f"one of the two has done nothing: {charged}"
        assert "payment.1" not in runners["order"].output
        assert [runner.stop() for runner in runners.values()] == [0] * len(SERVICES)
    finally:
        for project in projects.values():
            project.close()


def test_the_error_for_an_unknown_service_suggests_a_name(project: Project) -> None:
    code, output = project.call("run", "paymnet")
    assert code == 78
    assert "run: unknown service 'paymnet'; did you mean 'payment'?" in output
