"""A project with audit, and the commands that read its ledger."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Table, inspect

from runner.cli.main import main
from runner.ledger.loss_detection import LossDetection
from runner.store.database import open_database
from tests.audited import turn_on
from tests.rabbit import Vhost, wait_until
from tests.running import Project, Runner

PAYMENT, MAIL, PAID = "payment.order.created", "notification.order.events", "notification.payment.events"
AUDIT = "audit.events"
#: Seconds without any change, on the fast broker of the tests, after which the figures are final. The broker counts and
#: collects its statistics in less than half of this time.
STILL = 2.5


class Shop:
    """A project whose commands run in this process."""

    def __init__(self, project: Project, vhost: Vhost, patch: pytest.MonkeyPatch) -> None:
        self.project, self.vhost = project, vhost
        patch.setattr(LossDetection, "still", STILL)

    def command(self, *command: str) -> tuple[int, str, str]:
        """Run a command. Return its exit code, output and errors."""
        arguments = ["--project", str(self.project.folder), *command]
        try:
            done = CliRunner().invoke(main, arguments, env={"RABBITMQ_URL": self.vhost.url}, catch_exceptions=False)
        finally:
            gc.enable()
        return done.exit_code, done.stdout, done.stderr

    def process(self, *command: str) -> tuple[int, str, str]:
        """Run a command as a separate process, with the timeouts of the product."""
        done = subprocess.run(
            [sys.executable, "-m", "runner", *command],
            cwd=self.project.folder, env={**os.environ, "RABBITMQ_URL": self.vhost.url}, capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ledger(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Return the ledger."""
        result, output, errors = self.command("ledger", "--json", *options)
        assert result == code, output + errors
        found: dict[str, Any] = json.loads(output)
        return found

    def statement(self, *options: str) -> str:
        """Return the output of the ledger when it reports a loss. It may need several runs, as statistics are late."""

        def found() -> str | None:
            code, output, _ = self.command("ledger", *options)
            return output if code == 1 and output else None

        return str(wait_until(found, 60, "the ledger reports a loss"))

    def losing(self) -> dict[str, Any]:
        """Return the ledger that reports a loss."""
        result: dict[str, Any] = json.loads(self.statement("--json"))
        return result

    def settled(self, figures: dict[str, tuple[int, ...]], *options: str) -> dict[str, Any]:
        """Return the ledger when its queues have these figures."""

        def found() -> dict[str, Any] | None:
            code, output, _ = self.command("ledger", "--json", *options)
            one = json.loads(output) if code == 0 else None
            return one if one is not None and {name: row(one, name) for name in figures} == figures else None

        result: dict[str, Any] = wait_until(found, 60, f"the ledger shows {figures}")
        return result

    def post(self, count: int) -> list[str]:
        """Post orders. Return their ids."""
        answers = [self.project.post() for _ in range(count)]
        assert [status for status, _ in answers] == [202] * count
        return [str(body["order_id"]) for _, body in answers]

    def run(self, *command: str) -> None:
        """Run a command that must succeed."""
        code, output, errors = self.command(*command)
        assert code == 0, output + errors

    def edit(self, queue: str, **settings: Any) -> None:
        """Change the settings of a queue in topology.yaml."""
        topology = self.project.topology()
        topology["queues"][queue].update(settings)
        self.project.set_topology(topology)

    def purge(self, queue: str) -> None:
        """Purge the ready messages of a queue."""
        self.vhost.rabbit.api("DELETE", f"/queues/{self.vhost.name}/{queue}/contents")

    def execute(self, *statements: Any) -> None:
        """Change the database directly, as no command would."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.begin() as connection:
            for one in statements:
                connection.execute(one)
        engine.dispose()

    def empty(self, *tables: Table) -> None:
        """Remove all rows of those tables that exist."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.begin() as connection:
            for one in tables:
                if inspect(connection).has_table(one.name):
                    connection.execute(one.delete())
        engine.dispose()

    def rows(self, question: Any) -> list[Any]:
        """Return rows of the database."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.connect() as connection:
            found = [*connection.execute(question)]
        engine.dispose()
        return found


def audited_shop(project: Project, vhost: Vhost, folder: Path, patch: pytest.MonkeyPatch) -> Shop:
    """Create a project with audit, and with fast payments that never fail."""
    turn_on(project, f"sqlite:///{folder}/shop.db")
    project.options("payment", failure_rate=0.0, latency="1ms", timeout_rate=0.0)
    shop = Shop(project, vhost, patch)
    shop.edit(PAYMENT, retry=["100ms"])
    return shop


@contextmanager
def running_in(shop: Shop) -> Iterator[Runner]:
    """Run the shop, and wait for its first order."""
    runner = shop.project.run(url=shop.vhost.url)
    shop.project.first_order()
    runner.wait_for("everything is RUNNING")
    yield runner
    assert runner.stop() == 0


def of_queue(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the ledger's entry for a queue."""
    (one,) = [one for one in found["queues"] if one["queue"] == name]
    return dict(one)


def row(found: dict[str, Any], name: str, kind: str | None = None) -> tuple[int, ...]:
    """Return the counts published, handled, dead-lettered, discarded, waiting, lost, and handled twice."""
    rows = [one for one in of_queue(found, name)["events"] if kind in (None, one["type"])]
    names = ("published", "handled", "dead_lettered", "discarded", "waiting", "lost", "twice")
    # A count is None if it is unknown.
    return tuple(sum(one[name] or 0 for one in rows) for name in names)


def orders_lost(found: dict[str, Any], name: str) -> list[str]:
    """Return the orders whose events the ledger reports as lost."""
    return sorted(one["order_id"] for one in of_queue(found, name)["lost"])
