"""The command line's end of the control socket."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from runner.cli import client
from runner.errors import RunnerError
from runner.supervisor.control.protocol import socket_path


@pytest.fixture
def full(tmp_path: Path) -> socket.socket:
    """A socket whose queue is full."""
    (tmp_path / "config.yaml").touch()
    (tmp_path / "var").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    with socket_path(tmp_path / "var") as path:
        listener.bind(path)
        listener.listen(0)
        first = socket.socket(socket.AF_UNIX)
        first.connect(path)
    first.close()
    return listener


def test_a_client_waits_until_a_busy_runner_has_room(full: socket.socket, tmp_path: Path) -> None:
    waits = threading.Event()

    def serve() -> None:
        waits.wait(10)
        full.accept()[0].close()
        connection, _ = full.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(json.dumps({"ok": True}).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    threading.Timer(0.2, waits.set).start()
    with full:
        assert [*client.ask(tmp_path, "status")] == [{"ok": True}]
        thread.join(10)


def test_a_runner_that_never_has_room_is_reported(
    full: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIME", 0.2)
    with full, pytest.raises(RunnerError, match="the runner here does not answer"):
        list(client.ask(tmp_path, "status"))
