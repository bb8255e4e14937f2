"""The end of all processes that a test process started, however it ends, with the guardian of the supervisor.

Each process that the tests start carries a mark in its environment. The guardian waits for the end of a pipe from the
test process. The kernel closes the pipe even after SIGKILL. Then the guardian kills every process with the mark.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from runner.supervisor.processes import guardian

#: The variable that contains the mark. The mark of a process begins with the mark of its parent.
MARK = "FASTCOMMERCE_TEST_MARK"
#: Seconds until processes exit that a test has stopped. The guardian of a supervisor needs a moment.
PATIENCE = 10.0
#: Seconds until killed processes are gone on a busy machine.
END_TIME = 10.0
#: The audit events of a process start (Python: "Audit events table").
_STARTS = frozenset(
    ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
)


class Reaper:
    """The mark of this process and its guardian."""

    def __init__(self) -> None:
        self.mark = f"{os.environ.get(MARK, '')}{secrets.token_hex(4)}."
        os.environ[MARK] = self.mark
        command = [sys.executable, "-I", "-S", guardian.__file__, MARK, self.mark]
        # Its working directory must not keep a folder busy, and its output must not keep a pipe open.
        self._guardian = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        self._count = self._starts = 0
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: object) -> None:
        if event in _STARTS:
            self._starts += 1

    def close(self) -> None:
        """Kill the remaining processes, and stop the guardian."""
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(guardian.GRACE + guardian.PATIENCE + PATIENCE)

    @contextlib.contextmanager
    def one_test(self) -> Iterator[None]:
        """Mark all processes of one test, and kill the remaining processes after it.

        Raises AssertionError with their command lines.
        """
        self._count += 1
        mark, starts = f"{self.mark}{self._count}.", self._starts
        with _marked(mark):
            yield
        if self._starts == starts:
            return  # Most tests start no process, and reading all of /proc takes longer than many tests.
        deadline = time.monotonic() + PATIENCE
        while (left := marked(mark)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            commands = "\n".join(f"  {pid} {command_line(pid)}" for pid in left)
            end(mark)
            raise AssertionError(f"the test left processes, which were killed:\n{commands}")

    @contextlib.contextmanager
    def all_tests(self) -> Iterator[None]:
        """Mark processes that are started inside as shared. They end with this process instead of a single test."""
        with _marked(self.mark):
            yield


@contextlib.contextmanager
def _marked(mark: str) -> Iterator[None]:
    before = os.environ[MARK]
    os.environ[MARK] = mark
    try:
        yield
    finally:
        os.environ[MARK] = before


def marked(mark: str) -> set[int]:
    """Return the live processes with a mark that begins with ``mark``, and their descendants, except this process.

    A node of RabbitMQ does not have the mark in its environment, but it is a child of a process that has the mark.
    """
    others = [one for one in guardian.processes() if one.state not in "ZX" and one.pid != os.getpid()]
    found = {one.pid for one in others if (guardian.variable(one.pid, MARK) or "").startswith(mark)}
    while more := {one.pid for one in others if one.parent in found} - found:
        found |= more
    return found


def end(mark: str) -> None:
    """Kill all processes with a mark that begins with ``mark``. Raises AssertionError if some survive."""
    deadline = time.monotonic() + END_TIME
    while left := marked(mark):
        assert time.monotonic() < deadline, f"processes {left} do not exit"
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def command_line(pid: int) -> str:
    """Return a process's command line, or an empty text if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
