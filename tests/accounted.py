"""A project of which the ledger gives account, and what it says."""

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
#: Seconds for which nothing may move, of a broker that is as quick as the tests' own: more than twice the time after
#: which it counts anew, and in which its HTTP API collects that.
STILL = 2.5


class Shop:
    """A project, and its commands run in this process."""

    def __init__(self, project: Project, vhost: Vhost, patch: pytest.MonkeyPatch) -> None:
        self.project, self.vhost = project, vhost
        patch.setattr(LossDetection, "still", STILL)

    def command(self, *command: str) -> tuple[int, str, str]:
        """A command's exit code, and what it printed."""
        arguments = ["--project", str(self.project.folder), *command]
        try:
            done = CliRunner().invoke(main, arguments, env={"RABBITMQ_URL": self.vhost.url}, catch_exceptions=False)
        finally:
            gc.enable()
        return done.exit_code, done.stdout, done.stderr

    def process(self, *command: str) -> tuple[int, str, str]:
        """The same as a process of its own, as people run it, with the patience that it has there."""
        done = subprocess.run(
            [sys.executable, "-m", "runner", *command],
            cwd=self.project.folder, env={**os.environ, "RABBITMQ_URL": self.vhost.url}, capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ledger(self, *options: str, code: int = 0) -> dict[str, Any]:
        """What the ledger says."""
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
        """Return the same as parsed JSON."""
        result: dict[str, Any] = json.loads(self.statement("--json"))
        return result

    def settled(self, figures: dict[str, tuple[int, ...]], *options: str) -> dict[str, Any]:
        """The ledger, once its queues have these figures of the one type in each."""

        def found() -> dict[str, Any] | None:
            code, output, _ = self.command("ledger", "--json", *options)
            one = json.loads(output) if code == 0 else None
            return one if one is not None and {name: row(one, name) for name in figures} == figures else None

        result: dict[str, Any] = wait_until(found, 60, f"the ledger says {figures}")
        return result

    def post(self, count: int) -> list[str]:
        """Orders, each with an id of its own."""
        answers = [self.project.post() for _ in range(count)]
        assert [status for status, _ in answers] == [202] * count
        return [str(body["order_id"]) for _, body in answers]

    def run(self, *command: str) -> None:
        """A command that does what it should."""
        code, output, errors = self.command(*command)
        assert code == 0, output + errors

    def edit(self, queue: str, **settings: Any) -> None:
        """Change what topology.yaml says of a queue."""
        topology = self.project.topology()
        topology["queues"][queue].update(settings)
        self.project.set_topology(topology)

    def purge(self, queue: str) -> None:
        """Lose all that a queue holds ready."""
        self.vhost.rabbit.api("DELETE", f"/queues/{self.vhost.name}/{queue}/contents")

    def execute(self, *statements: Any) -> None:
        """Change the database behind everybody's back."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.begin() as connection:
            for one in statements:
                connection.execute(one)
        engine.dispose()

    def empty(self, *tables: Table) -> None:
        """Remove all rows of those tables that there are."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.begin() as connection:
            for one in tables:
                if inspect(connection).has_table(one.name):
                    connection.execute(one.delete())
        engine.dispose()

    def rows(self, question: Any) -> list[Any]:
        """What the database holds."""
        engine = open_database(str(self.project.config()["store"]["url"]), self.project.folder)
        with engine.connect() as connection:
            found = [*connection.execute(question)]
        engine.dispose()
        return found


def audited_shop(project: Project, vhost: Vhost, folder: Path, patch: pytest.MonkeyPatch) -> Shop:
    """A project with audit, in which payments neither fail nor take long."""
    turn_on(project, f"sqlite:///{folder}/shop.db")
    project.options("payment", failure_rate=0.0, latency="1ms", timeout_rate=0.0)
    shop = Shop(project, vhost, patch)
    shop.edit(PAYMENT, retry=["100ms"])
    return shop


@contextmanager
def running_in(shop: Shop) -> Iterator[Runner]:
    """The shop at work, after its first order."""
    runner = shop.project.run(url=shop.vhost.url)
    shop.project.first_order()
    runner.wait_for("everything is RUNNING")
    yield runner
    assert runner.stop() == 0


def of_queue(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What a ledger says of one queue."""
    (one,) = [one for one in found["queues"] if one["queue"] == name]
    return dict(one)


def row(found: dict[str, Any], name: str, kind: str | None = None) -> tuple[int, ...]:
    """Published, handled, parked, discarded, waiting, lost, and handled twice."""
    rows = [one for one in of_queue(found, name)["events"] if kind in (None, one["type"])]
    names = ("published", "handled", "parked", "discarded", "waiting", "lost", "twice")
    # Nothing where it is not known.
    return tuple(sum(one[name] or 0 for one in rows) for name in names)


def orders_lost(found: dict[str, Any], name: str) -> list[str]:
    """The orders whose events are named as lost."""
    return sorted(one["order_id"] for one in of_queue(found, name)["lost"])
