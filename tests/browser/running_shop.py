"""A running system with a dashboard, which the tests of several pages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from sqlalchemy import Engine, insert

from runner.history.tables import attempts, events
from runner.store.database import open_database
from tests.audited import T0, fill
from tests.rabbit import Vhost
from tests.running import Project, Runner

#: Orders of the past, each of which was retried, dead-lettered, replayed and paid.
ORDERS = [f"{number:04x}dead-beef" for number in range(3)]
#: An order of the past, all texts of which are a script.
HOSTILE = "hostile/<b>&"
SCRIPT = "<script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
ADDRESS = f'"{SCRIPT}"@example.com'


class RunningShop:
    """The shipped system with a dashboard, fault injection and recorded orders.

    Each test leaves the services running as it found them.
    """

    def __init__(self, folder: Path, vhost: Vhost) -> None:
        self.project = Project(folder, audit=True, dashboard=True)
        self.project.set_config(self.project.config() | {"fault_injection": True})
        self.project.options("payment", failure_rate=0.0, latency="20ms")
        engine = open_database("sqlite:///var/fastcommerce.db", self.project.folder)
        fill(engine, ORDERS)
        _add_hostile(engine)
        engine.dispose()
        self.broker_url = vhost.url
        self.url = f"http://127.0.0.1:{self.project.dashboard_port}"
        self._runner: Runner | None = None

    @property
    def runner(self) -> Runner:
        """The running supervisor."""
        assert self._runner is not None
        return self._runner

    def start(self) -> None:
        """Start the system."""
        self._runner = self.project.run(url=self.broker_url)
        self._runner.wait_for("everything is RUNNING")

    def close(self) -> None:
        """Stop the system, also if it has not started completely."""
        self.project.close()

    def open(self, page: Page, path: str = "/") -> Page:
        """Open a page, and wait for its first frame."""
        page.goto(f"{self.url}{path}")
        expect(page.locator("[data-live].ok")).to_be_visible()
        return page

    def slot(self, name: str) -> Any:
        """Return the status of a slot, or None if it does not exist."""
        return self.project.slots().get(name)


def _add_hostile(engine: Engine) -> None:
    event = {
        "id": "h-1", "type": SCRIPT, "order_id": HOSTILE, "published_at": T0 + 9000, "exchange": SCRIPT,
        "routing_key": SCRIPT, "app_id": SCRIPT, "causation_id": None, "content_type": SCRIPT,
        "headers": {SCRIPT: SCRIPT}, "body": json.dumps({"customer_email": ADDRESS, "amount": SCRIPT}),
    }  # fmt: skip
    attempt = {
        "id": "h-a", "order_id": HOSTILE, "message_id": "h-1", "message_type": SCRIPT, "queue": SCRIPT,
        "service": SCRIPT, "instance": SCRIPT, "attempt": 1, "replays": 0, "outcome": "dead_lettered", "error": SCRIPT,
        "delay": None, "sent_at": T0 + 9000, "began_at": T0 + 9001, "ended_at": T0 + 9100, "redelivered": False,
        "replayed_at": None, "pid": 41,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(events), [event])
        connection.execute(insert(attempts), [attempt])
