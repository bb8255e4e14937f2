"""The command line's end of the control socket."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from runner.errors import AlreadyRunning, RunnerError
from runner.supervisor.control import client, socket_path
from runner.supervisor.lock import FILE, holder_of, take_lock


@pytest.fixture
def full(tmp_path: Path) -> socket.socket:
    """Return a socket whose queue is full."""
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
    with full, pytest.raises(RunnerError, match="the supervisor does not respond"):
        list(client.ask(tmp_path, "status"))


def test_a_runner_with_a_removed_socket_is_not_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIME", 0.1)
    (tmp_path / "config.yaml").touch()
    with take_lock(tmp_path / "var"):
        # The lock of another process: a command may have the lock of this folder itself.
        pid = os.getppid()
        (tmp_path / "var" / FILE).write_text(f"{pid}\n")
        said = f"runner.sock: the socket is missing, but process {pid} has locked .* stop it with: kill {pid}$"
        with pytest.raises(RunnerError, match=said) as caught:
            list(client.ask(tmp_path, "status"))
        assert not isinstance(caught.value, client.NoRunner)
        with pytest.raises(AlreadyRunning, match=f"a supervisor is already running in this folder, pid {pid}"):
            take_lock(tmp_path / "var")
    with pytest.raises(client.NoRunner, match="no supervisor is running in"):
        list(client.ask(tmp_path, "status"))


@pytest.mark.parametrize("left", ["", "runner.lock", "runner.sock"])
def test_files_of_a_killed_runner_are_no_runner(tmp_path: Path, left: str) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "var").mkdir()
    if left == "runner.sock":
        with socket_path(tmp_path / "var") as path, socket.socket(socket.AF_UNIX) as one:
            one.bind(path)
    elif left:
        (tmp_path / "var" / left).write_bytes(b"\xff" * 1000)
    with pytest.raises(client.NoRunner, match="no supervisor is running in"):
        list(client.ask(tmp_path, "status"))


def test_a_query_of_the_lock_does_not_keep_a_runner_from_its_start(tmp_path: Path) -> None:
    take_lock(tmp_path).close()
    with (tmp_path / "runner.lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.03, partial(fcntl.flock, asking, fcntl.LOCK_UN)).start()
        with take_lock(tmp_path):
            assert holder_of(tmp_path) == str(os.getpid())


@pytest.mark.parametrize(
    "answer", [b"no JSON\n", b"[]\n", b'"ok"\n', b"\xff\n", b"[" * 100_000 + b"\n", b"{" * 50 + b"\n"]
)
def test_another_server_at_the_socket_is_reported(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "var").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    with socket_path(tmp_path / "var") as path:
        listener.bind(path)
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener, pytest.raises(RunnerError, match=r"runner\.sock: invalid response from the socket"):
        list(client.ask(tmp_path, "status"))
    thread.join(10)
