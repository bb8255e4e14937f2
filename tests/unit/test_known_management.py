"""The address of the HTTP API of a broker that this project runs itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.address import Address, Login
from runner.broker import find
from runner.broker.folder import Folder
from runner.broker.port import Ports
from runner.cli import temporary_broker as broker
from runner.config.project import read_project
from runner.errors import RunnerError
from runner.supervisor.control.client import NoRunner

MOVED = "http://127.0.0.1:33105"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return the folder of a private node whose management port has moved."""
    one = Folder(tmp_path / "var" / "broker")
    one.make()
    one.configure(Ports(7000, 33105, 27000), "127.0.0.1", Login())
    (tmp_path / "topology.yaml").write_text("")
    return one


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        (["amqp://guest:guest@127.0.0.1:7000/"], MOVED),
        (["amqp://localhost:7000/shop"], MOVED),
        (["amqp://broker.example:7000/", "amqp://127.0.0.1:7000/"], MOVED),
        (["amqp://127.0.0.1:7001/"], None),
        (["amqp://127.0.0.1:17000/"], None),
        (["amqp://broker.example:7000/"], None),
    ],
)
def test_the_api_of_a_running_private_node_is_called_at_its_current_port(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, urls: list[str], found: str | None
) -> None:
    monkeypatch.setattr(find, "node_pid", lambda folder: 4711)
    assert find.known_management(urls, folder.path) == found
    monkeypatch.setattr(find, "node_pid", lambda folder: None)
    assert find.known_management(urls, folder.path) is None


def slots(*endpoints: dict[str, Any] | None) -> dict[str, Any]:
    return {"ok": True, "slots": [{"slot": "broker.1", "endpoint": one} for one in endpoints]}


@pytest.mark.parametrize(
    ("url", "answer", "found"),
    [
        ("amqp://127.0.0.1:7000/", slots({"port": 7000, "management": MOVED}), MOVED),
        ("amqp://localhost:7000/", slots(None, {"port": 7000, "management": MOVED}, None), MOVED),
        ("amqp://127.0.0.1:7001/", slots({"port": 7000, "management": MOVED}), None),
        ("amqp://broker.example:7000/", slots({"port": 7000, "management": MOVED}), None),
        ("amqp://127.0.0.1:7000/", slots(), None),
        ("amqp://127.0.0.1:7000/", {"ok": True}, None),
        ("amqp://127.0.0.1:7000/", NoRunner("no supervisor is running"), None),
        ("amqp://127.0.0.1:7000/", RunnerError("it does not answer"), None),
    ],
)
def test_the_running_runner_knows_the_address_of_its_broker(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, url: str, answer: dict[str, Any] | RunnerError, found: str | None
) -> None:
    def ask(folder: Path, command: str, **request: Any) -> Iterator[dict[str, Any]]:
        assert command == "status"
        if isinstance(answer, RunnerError):
            raise answer
        yield answer

    root = folder.path.parents[1]
    (root / "config.yaml").write_text("")
    monkeypatch.setattr(broker, "ask", ask)
    assert broker._reported_by_supervisor(read_project(root), Address.of(url)) == found
