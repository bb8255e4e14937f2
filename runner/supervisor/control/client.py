"""The client side of the control socket, which commands use."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.invocation import invocation
from runner.supervisor import lock
from runner.supervisor.control import FILE, VERSION, socket_path

#: Seconds to wait for a connection, and seconds to wait for a supervisor to exit after its last response.
CONNECT_TIME, END_TIME = 5.0, 10.0
#: Seconds to wait for the next snapshot of a running system, and seconds to wait for the acceptance of a note.
WATCH_PATIENCE, NOTE_TIME = 10.0, 0.1
#: The maximum size of a response in bytes.
MAX_ANSWER = 64 * 1024 * 1024


class NoRunner(RunnerError):
    """The error of a command that finds no supervisor in its folder."""


class EndedMeanwhile(NoRunner):
    """The error of a command whose supervisor exited before its last response."""


class CommandRefused(RunnerError):
    """The error of a command that the supervisor refused or could not complete."""


def ask(folder: Path, command: str, *, patience: float | None = None, **request: Any) -> Iterator[dict[str, Any]]:
    """Send a request to the supervisor of a folder, and yield the responses.

    Raises NoRunner if no supervisor is running, and EndedMeanwhile if the supervisor exits before its last response.
    Raises CommandRefused if the command fails, and RunnerError if the supervisor sends no response for ``patience``
    seconds.
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
                    error = CommandRefused(str(answer["error"]))
                    if isinstance(code := answer.get("exit_code"), int):
                        error.exit_code = code
                    raise error
                has_ended = "ok" not in answer
                yield answer
    if has_ended:
        raise EndedMeanwhile(f"the supervisor in {folder.resolve()} exited without a response; check its output")


def watch(folder: Path) -> Generator[dict[str, Any]]:
    """Yield a snapshot of the running system, and then one snapshot per second.

    Close the iterator to end the stream. Raises the errors of ``ask``. If the supervisor exits, EndedMeanwhile is
    raised.
    """
    for answer in ask(folder, "watch", patience=WATCH_PATIENCE):
        yield answer["snapshot"]


def post_note(folder: Path, kind: str, subject: str, text: str) -> None:
    """Add a note to the supervisor's timeline, for a command that acts outside the supervisor.

    ``kind`` is ``command`` or ``fault``. A note must not delay a command or make it fail. The note is therefore lost if
    no supervisor is running, or if the supervisor does not accept the note within ``NOTE_TIME`` seconds.
    """
    request = {"version": VERSION, "command": "note", "kind": kind, "subject": subject, "text": text}
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(NOTE_TIME)
        with socket_path(folder / "var") as path:
            connection.connect(path)
        # The supervisor reads the request even if the client has already disconnected.
        connection.sendall(json.dumps(request).encode() + b"\n")


def _decoded(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise RunnerError(
            f"{folder / 'var' / FILE}: invalid response from the socket; check which process listens on it"
        )
    return answer


def wait_gone(folder: Path) -> None:
    """Wait until another supervisor can be started in the folder. Raises RunnerError after ``END_TIME`` seconds."""
    deadline = time.monotonic() + END_TIME
    with (folder / "var" / lock.FILE).open() as file:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.02)
    raise RunnerError(f"the supervisor did not exit within {END_TIME:g} s; check its output")


def _reach(connection: socket.socket, var: Path) -> None:
    """Connect to the supervisor.

    If the folder is locked but the socket is missing, wait for the socket. Raises OSError.
    """
    deadline = time.monotonic() + CONNECT_TIME
    while True:
        try:
            with socket_path(var) as path:
                _connect(connection, path)
        except (FileNotFoundError, ConnectionRefusedError):
            # The supervisor is starting, stopping, or recreating a removed socket.
            if time.monotonic() > deadline or _other_holder(var) is None:
                raise
            time.sleep(0.05)
        else:
            return


def _other_holder(var: Path) -> str | None:
    """Return the pid of another process that has locked the project's folder, or None if there is none."""
    # A command that starts a broker locks the folder itself, so no supervisor can be running in the folder.
    holder = lock.holder_of(var)
    return None if holder == str(os.getpid()) else holder


def _connect(connection: socket.socket, path: str) -> None:
    """Connect to the socket. While the socket's backlog is full, wait. Raises OSError."""
    deadline = time.monotonic() + CONNECT_TIME
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            # The socket's backlog is full (unix(7), EAGAIN), because the supervisor is busy.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _connected(folder: Path) -> Iterator[socket.socket]:
    var = folder / "var"
    remedy = f"start it with: {invocation()}"
    if not (folder / "config.yaml").exists():
        remedy = "the folder contains no project; name the project's folder with --project DIR before the command"
    missing = NoRunner(f"no supervisor is running in {folder.resolve()}; {remedy}")
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
                f"{var / FILE}: the socket is missing, but process {holder} has locked this folder; "
                f"check the output of the process, or stop it with: kill {holder}"
            ) from None
        except PermissionError:
            raise RunnerError(
                f"{var}: the supervisor in this folder runs as another user; run the command as that user"
            ) from None
        except OSError as error:
            raise RunnerError(
                f"{var}: the supervisor does not respond, {error.strerror or error}; check its output"
            ) from None
        connection.settimeout(None)
        try:
            yield connection
        except TimeoutError:
            raise RunnerError(f"{var}: the supervisor does not respond; check its output") from None
        except ConnectionError:
            return  # the supervisor has exited, and the caller notices that the last response is missing
