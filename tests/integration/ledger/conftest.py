"""Fixtures for the tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounted import Shop, audited_shop, running_in
from tests.rabbit import Vhost
from tests.running import Project, Runner


@pytest.fixture
def shop(project: Project, vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A project whose orders, events and tries are written down."""
    return audited_shop(project, vhost, tmp_path, monkeypatch)


@pytest.fixture
def running(shop: Shop) -> Iterator[Runner]:
    """Its runner, up until the test ends."""
    with running_in(shop) as runner:
        yield runner
