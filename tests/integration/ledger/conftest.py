"""What the tests of the ledger share: a broker that counts soon, and an audited shop on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounted import Shop, audited_shop, quick_rabbit, running_in
from tests.rabbit import Rabbit, Vhost
from tests.running import Project, Runner


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """One for all tests here; quorum queues tell of themselves sooner than on the other tests' broker."""
    node = quick_rabbit(tmp_path_factory.mktemp("rabbit") / "broker")
    yield node
    node.stop()


@pytest.fixture
def shop(project: Project, vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A project whose orders, events and tries are written down."""
    return audited_shop(project, vhost, tmp_path, monkeypatch)


@pytest.fixture
def running(shop: Shop) -> Iterator[Runner]:
    """Its runner, up until the test ends."""
    with running_in(shop) as runner:
        yield runner
