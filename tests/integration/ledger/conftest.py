"""Fixtures for the tests of the ledger."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.history.tables import attempts, events
from runner.store.schema import inbox, outbox
from tests.accounted import Shop, audited_shop, running_in
from tests.keeping import CHARGES, EMAILS
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project, Runner

#: Seconds for which all queues must be empty, longer than the delay of statistics.
QUIET_PERIOD = 1.2


@pytest.fixture
def shop(project: Project, vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Return a project that records its orders, events and attempts."""
    return audited_shop(project, vhost, tmp_path, monkeypatch)


@dataclass
class Lasting:
    """A running shop that several tests share, and that is reset between them."""

    shop: Shop
    runner: Runner
    is_new: bool = True

    def __post_init__(self) -> None:
        self._topology, self._config = self.shop.project.topology(), self.shop.project.config()
        self._queues = {*self.shop.vhost.queues()}

    def renew(self) -> None:
        """Undo all changes of a test except plugins that no service runs any more."""
        if self.is_new:
            self.is_new = False
            return
        shop = self.shop
        shop.project.set_topology(self._topology)
        shop.project.set_config(self._config)
        shop.run("reload")
        for name, slot in shop.project.slots().items():
            if slot["state"] != "RUNNING":
                shop.run("start", name.partition(".")[0])
        wait_until(lambda: all(one["state"] == "RUNNING" for one in shop.project.slots().values()), 30, "all run")
        for queue in {*shop.vhost.queues()} - self._queues:
            # These include retry queues of delays that the shop no longer has.
            shop.vhost.delete_queue(queue)
        self._empty()
        shop.empty(events, attempts, inbox, outbox, CHARGES, EMAILS)
        shop.project.first_order()

    def _empty(self) -> None:
        since = time.monotonic()

        def is_quiet() -> bool:
            nonlocal since
            if held := [name for name, one in self.shop.vhost.queues().items() if one.get("messages", 1)]:
                since = time.monotonic()
                for name in held:
                    self.shop.purge(name)
            time.sleep(0.2)
            return time.monotonic() > since + QUIET_PERIOD

        wait_until(is_quiet, 30, "no message is in flight")


@pytest.fixture(scope="module")
def with_outbox() -> bool:
    """Return True if the shops of a module have an outbox, and an inbox for payments."""
    return False


@pytest.fixture(scope="module")
def lasting(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory, with_outbox: bool) -> Iterator[Lasting]:
    """Yield a shop for the tests of a module that leave its runner running."""
    folder = tmp_path_factory.mktemp("lasting")
    vhost, project = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}"), Project(folder / "project")
    with pytest.MonkeyPatch.context() as patch:
        one = audited_shop(project, vhost, folder, patch)
        if with_outbox:
            project.options("order_api", outbox=True)
            config = project.config()
            config["services"]["payment"]["inbox"] = True
            project.set_config(config)
        try:
            with running_in(one) as runner:
                yield Lasting(one, runner)
        finally:
            project.close()
            vhost.delete()


@pytest.fixture
def lasting_shop(lasting: Lasting) -> Shop:
    """Return a running shop that has handled its first order."""
    lasting.renew()
    return lasting.shop


@pytest.fixture
def lasting_runner(lasting: Lasting) -> Runner:
    """Return the runner of the lasting shop."""
    return lasting.runner


@pytest.fixture
def running(shop: Shop) -> Iterator[Runner]:
    """Run the services of ``shop`` until the test ends."""
    with running_in(shop) as runner:
        yield runner
