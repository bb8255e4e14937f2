"""A declaration makes RabbitMQ write new quorum queues to disk. ``test_quorum_survival.py`` kills the broker then."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from runner.admin import quorum_durability as module
from runner.admin.quorum_durability import wait_until_durable
from runner.config.version import WRITES_EARLIER_NAMES, parsed
from tests.rabbit import Vhost


@pytest.fixture
def bystander(vhost: Vhost) -> Iterator[str]:
    """Yield the URL of the vhost for a user that may not declare any object."""
    api = vhost.rabbit.api
    api("PUT", f"/users/{vhost.name}", {"password": "pw", "tags": ""})
    api("PUT", f"/permissions/{vhost.name}/{vhost.name}", {"configure": "^$", "write": ".*", "read": ".*"})
    yield vhost.url.replace("guest:guest", f"{vhost.name}:pw")
    api("DELETE", f"/users/{vhost.name}")


def test_the_temporary_queue_is_deleted(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other versions need no such queue, and wait for the whole period.
    needs_queue = WRITES_EARLIER_NAMES.holds(parsed(".".join(map(str, vhost.rabbit.version))))
    monkeypatch.setattr(module, "PERIOD", 60.0 if needs_queue else 0.1)
    started = time.monotonic()
    wait_until_durable([vhost.url])
    assert time.monotonic() - started < 60
    assert vhost.queues() == {}


def test_several_addresses_may_be_several_nodes_so_the_declaration_waits(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.7)
    started = time.monotonic()
    wait_until_durable(["amqp://guest:guest@127.0.0.1:1/", vhost.url])
    assert time.monotonic() - started >= 0.7


def test_a_user_that_may_not_declare_the_queue_waits(bystander: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.7)
    started = time.monotonic()
    wait_until_durable([bystander])
    assert time.monotonic() - started >= 0.7


def test_a_declaration_waits_the_full_period_if_the_broker_becomes_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD", 0.7)
    started = time.monotonic()
    wait_until_durable(["amqp://guest:guest@127.0.0.1:1/"])
    assert time.monotonic() - started >= 0.7


@pytest.mark.parametrize(
    ("version", "is_known"),
    [
        ("3.10.7", False), ("3.10.8", True), ("3.10.25", True), ("3.11.0", False), ("3.13.7", False), ("4.0.0", False),
        ("4.3.6", False), ("4.1.0-rc.1", False), ("", False), ("unknown", False),
    ],
)  # fmt: skip
def test_only_tested_versions_skip_the_wait(version: str, is_known: bool) -> None:
    assert WRITES_EARLIER_NAMES.holds(parsed(version)) is is_known
