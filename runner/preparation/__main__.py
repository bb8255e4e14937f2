"""``python -m runner.preparation``: the process that runs tasks for ``preparation_client.Preparation``."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import traceback
from queue import SimpleQueue
from typing import Any

from runner.errors import ConfigError, RunnerError
from runner.inspection.inspector import Inspector
from runner.prerequisite import missing_package


def main() -> None:
    """Run the tasks that arrive on the socket at standard input, until the supervisor closes the socket or exits."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    # Printed text goes to standard error, because the socket is only for responses.
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    stream = connection.makefile("rwb")
    order, memory = pickle.load(stream)  # noqa: S301 - from the supervisor, over a private socket
    # The first process checks the files immediately, so the inspector starts now and imports its modules in parallel.
    inspector = Inspector() if memory is None else None
    try:
        from runner.preparation.preparer import Preparer
    except ImportError as error:
        pickle.dump(("return", _expected(error), memory), stream)
        stream.flush()
        return

    lock = threading.Lock()

    def send(*answer: Any) -> None:
        with lock:
            pickle.dump(answer, stream)
            stream.flush()

    preparer = Preparer(
        order,
        lambda text, level: send("say", text, level),
        None if memory is None else pickle.loads(memory),  # noqa: S301 - from an earlier process of this kind
        inspector,
    )
    tasks: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()
    threading.Thread(target=_read, args=(stream, tasks), daemon=True).start()
    while True:
        name, arguments = tasks.get()
        result: Any
        try:
            result = getattr(preparer, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - even a bug is reported
            result = _expected(error)
        send("return", result, pickle.dumps(preparer.memory))


def _expected(error: Exception) -> RunnerError:
    """Convert an exception to an error for the supervisor, with a traceback if the exception is unexpected."""
    if isinstance(error, RunnerError):
        return error
    if isinstance(error, ImportError) and (problem := missing_package(error)) is not None:
        return ConfigError([problem])
    return RunnerError("".join(traceback.format_exception(error)).rstrip())


def _read(stream: Any, tasks: SimpleQueue[tuple[str, tuple[Any, ...]]]) -> None:
    # A thread reads the socket, so that an exit of the supervisor is noticed even during a task.
    try:
        while True:
            tasks.put(pickle.load(stream))  # noqa: S301 - from the supervisor, over a private socket
    except (EOFError, OSError):
        # The process group includes the child processes of this process.
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
