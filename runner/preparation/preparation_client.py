"""The supervisor's client of the preparation process, which starts a process for each task."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from runner.errors import BrokerError
from runner.supervisor.program import Program

#: A function that prints a line at a level.
Say = Callable[[str, str], None]


@dataclass(frozen=True)
class PreparationRequest:
    """The command-line arguments that preparation needs."""

    folder: str
    services: tuple[str, ...]
    log_format: str
    log_level: str


@dataclass(frozen=True)
class SupervisionPlan:
    """The programs and settings from the configuration files."""

    programs: Sequence[Program]
    exits_on_fatal: bool
    #: The maximum size of a log file in bytes, and the number of renamed files to keep. None for no log files.
    logs: tuple[int, int] | None


@dataclass(frozen=True)
class PreparedSystem:
    """The programs that run the broker, if any, and a description of the broker for the user."""

    programs: Sequence[Program]
    words: str
    #: Warnings to print at the start.
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class PreparedPrograms:
    """The programs to run, and a line for each object that must be replaced on the broker."""

    programs: Sequence[Program]
    left: Sequence[str]
    #: True if ``finish`` must be called after these programs have started.
    is_unfinished: bool = False


class Preparation:
    """A client that runs the tasks of ``Preparer`` in its process, and raises their errors.

    The methods may be called from any thread. They run one at a time.
    """

    def __init__(self, order: PreparationRequest) -> None:
        self._order = order
        #: The function that prints a line at a level. The caller replaces it when the output is ready.
        self.say: Say = lambda text, level: None
        #: ``_stays`` is True if the process keeps running, because autoscaling periodically requests ready messages.
        self._stays = self._is_closed = False
        self._lock = threading.Lock()
        #: The pickled memory that the last process passes to the next. None before the first task.
        self._memory: bytes | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Start the process first. The first task needs it, and its start takes the longest time.
        self._start()

    def begin(self) -> SupervisionPlan:
        """Call ``Preparer.begin``. The process keeps running for the next tasks."""
        begun = cast(SupervisionPlan, self._call("begin"))
        self._stays = _has_autoscale(begun.programs)
        return begun

    def find(self) -> PreparedSystem:
        """Call ``Preparer.find``. The process keeps running for the next tasks."""
        return cast(PreparedSystem, self._call("find"))

    def prepare(self) -> PreparedPrograms | None:
        """Call ``Preparer.prepare``. If the task fails, the process keeps running for the next attempt."""
        return self._prepared("prepare")

    def finish(self) -> PreparedPrograms | None:
        """Call ``Preparer.finish``."""
        return self._prepared("finish")

    def _prepared(self, task: str) -> PreparedPrograms | None:
        prepared = cast("PreparedPrograms | None", self._call(task))
        if prepared is not None:
            self._stays = _has_autoscale(prepared.programs)
        self._end()
        return prepared

    def reload(self) -> PreparedPrograms:
        """Call ``Preparer.reload``."""
        try:
            prepared = cast(PreparedPrograms, self._call("reload"))
            self._stays = _has_autoscale(prepared.programs)
            return prepared
        finally:
            self._end()

    def ready_messages(self, service: str) -> int:
        """Call ``Preparer.ready_messages``."""
        return cast(int, self._call("ready_messages", service))

    def close(self) -> None:
        """Kill the process and its children. Every task can be interrupted safely at any point."""
        self._is_closed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _call(self, task: str, *arguments: Any) -> Any:
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._forget()  # the process was killed between two tasks
            try:
                if self._process is None:
                    self._start()
                result = self._converse(task, arguments)
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                code = self._forget()
                words = f"exited with {code}" if code else f"cannot be run, {error}"
                raise BrokerError(f"the process that reads the files and declares the topology {words}") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _end(self) -> None:
        with self._lock:
            if not self._stays:
                self._forget()

    def _forget(self) -> int:
        """Let the process exit if it is still running, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(OSError):  # unsent data cannot be flushed either
            self._stream.close()
        return process.wait()

    def _start(self) -> None:
        if self._is_closed:
            raise OSError("the runner exits")
        ours, theirs = socket.socketpair()
        with theirs:
            # Unlike leftover processes of services, the process remains in the supervisor's session. It has a group
            # of its own, because only the supervisor handles Ctrl-C.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner.preparation"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                process_group=0,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        with ours:
            self._stream = ours.makefile("rwb")
        self._send((self._order, self._memory))

    def _converse(self, task: str, arguments: tuple[Any, ...]) -> Any:
        self._send((task, arguments))
        while True:
            kind, *rest = pickle.load(self._stream)  # noqa: S301 - from a child, over a private socket
            if kind == "say":
                self.say(*rest)
            else:
                result, self._memory = rest
                return result

    def _send(self, value: Any) -> None:
        pickle.dump(value, self._stream)
        self._stream.flush()


def _has_autoscale(programs: Sequence[Program]) -> bool:
    return any(program.autoscale is not None for program in programs)
