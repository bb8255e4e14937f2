"""The command line's end of the control socket."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.invocation import invocation
from runner.supervisor import lock
from runner.supervisor.control import FILE, VERSION, socket_path

#: Seconds to connect, and for a runner that has said its last word to be gone.
CONNECT_TIME, END_TIME = 5.0, 10.0
#: Bytes of one answer.
MAX_ANSWER = 64 * 1024 * 1024


class NoRunner(RunnerError):
    """No runner works in this folder."""


class EndedMeanwhile(NoRunner):
    """It ended before its last answer."""


def ask(folder: Path, command: str, *, patience: float | None = None, **request: Any) -> Iterator[dict[str, Any]]:
    """Send one request to the folder's runner; yields each answer, the last one last.

    Raises NoRunner where there is none or it ended meanwhile, and RunnerError with the reason where it could not do it
    or does not answer for ``patience`` seconds.
    """
    has_ended = True
    with _connected(folder) as connection:
        connection.settimeout(patience)
        head = {"version": VERSION, "command": command, "invocation": invocation()}
        connection.sendall(json.dumps({**head, **request}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            while raw := stream.readline(MAX_ANSWER):
                answer = _decoded(raw, folder)
                if answer.get("ok") is False:
                    raise RunnerError(str(answer["error"]))
                has_ended = "ok" not in answer
                yield answer
    if has_ended:
        raise EndedMeanwhile(f"the runner in {folder.resolve()} ended meanwhile; look at its output")


def _decoded(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise RunnerError(f"{folder / 'var' / FILE}: something that is no runner answers there; look at it")
    return answer


def wait_gone(folder: Path) -> None:
    """Wait until another runner can be started in the folder. Raises RunnerError where that takes too long."""
    deadline = time.monotonic() + END_TIME
    with (folder / "var" / lock.FILE).open() as file:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.02)
    raise RunnerError(f"the runner has not ended within {END_TIME:g} s; look at its output")


def _reach(connection: socket.socket, var: Path) -> None:
    """Connect, and wait while a runner that holds the folder has no socket there. Raises OSError."""
    deadline = time.monotonic() + CONNECT_TIME
    while True:
        try:
            with socket_path(var) as path:
                _connect(connection, path)
        except (FileNotFoundError, ConnectionRefusedError):
            # The supervisor has just started, is stopping, or is replacing a socket that was removed.
            if time.monotonic() > deadline or _other_holder(var) is None:
                raise
            time.sleep(0.05)
        else:
            return


def _other_holder(var: Path) -> str | None:
    """Return the pid of the process that holds the project's folder, or None if no process or only this one does."""
    # A command that has started a broker for itself holds the folder, and no runner can run there.
    holder = lock.holder_of(var)
    return None if holder == str(os.getpid()) else holder


def _connect(connection: socket.socket, path: str) -> None:
    """Connect, and wait while the queue of the runner's socket is full. Raises OSError."""
    deadline = time.monotonic() + CONNECT_TIME
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            # The queue of the socket is full (unix(7), EAGAIN) because the runner is busy.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _connected(folder: Path) -> Iterator[socket.socket]:
    var = folder / "var"
    remedy = f"start one there with: {invocation()}"
    if not (folder / "config.yaml").exists():
        remedy = "no project is there either; name its folder with --project DIR before the command"
    missing = NoRunner(f"no runner is running in {folder.resolve()}; {remedy}")
    if not var.is_dir():
        raise missing
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIME)
        try:
            _reach(connection, var)
        except (FileNotFoundError, ConnectionRefusedError):
            holder = _other_holder(var)
            if holder is None:
                raise missing from None
            raise RunnerError(
                f"{var / FILE}: is not there, though process {holder} runs here; a runner makes it again by itself: "
                f"look at its output, or end it with: kill {holder}"
            ) from None
        except PermissionError:
            raise RunnerError(f"{var}: the runner here is another user's; be that user") from None
        except OSError as error:
            raise RunnerError(
                f"{var}: the runner here does not answer, {error.strerror or error}; look at it"
            ) from None
        connection.settimeout(None)
        try:
            yield connection
        except TimeoutError:
            raise RunnerError(f"{var}: the runner here does not answer; look at it, and at its output") from None
        except ConnectionError:
            return  # it ended meanwhile, as the caller sees
