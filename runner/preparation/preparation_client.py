"""The supervisor's side of preparation, which starts a preparation process for each task."""

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

#: A function that prints a line at a log level.
Say = Callable[[str, str], None]


@dataclass(frozen=True)
class PreparationRequest:
    """The command-line arguments that the preparation process needs."""

    folder: str
    services: tuple[str, ...]
    log_format: str
    log_level: str


@dataclass(frozen=True)
class SupervisionPlan:
    """The programs to supervise, and the supervisor's settings, from the configuration files."""

    programs: Sequence[Program]
    exits_on_fatal: bool
    #: The maximum size of a log file in bytes, and the number of rotated files to keep. None disables log files.
    logs: tuple[int, int] | None


@dataclass(frozen=True)
class PreparedSystem:
    """The programs that run a private broker, if any, and a line that describes the broker."""

    programs: Sequence[Program]
    words: str
    #: Warnings to print at the start.
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class PreparedPrograms:
    """The programs to run, and a line about each object that must be replaced on the broker."""

    programs: Sequence[Program]
    left: Sequence[str]
    #: True if ``finish`` must be called after the programs have started.
    is_unfinished: bool = False


class Preparation:
    """A client that runs the tasks of ``Preparer`` in the preparation process, and raises the errors of the tasks.

    Any thread may call the methods, which run one at a time.
    """

    def __init__(self, order: PreparationRequest) -> None:
        self._order = order
        #: The function that prints a line at a log level. The caller replaces this function when the output is ready.
        self.say: Say = lambda text, level: None
        #: ``_stays`` is True if the process must keep running, because autoscaling requests message counts
        #: periodically.
        self._stays = self._is_closed = False
        self._lock = threading.Lock()
        #: The pickled state that each process passes to the next. None before the first task.
        self._memory: bytes | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # The process is started first, because its start takes longer than everything else before the first task.
        self._start()

    def begin(self) -> SupervisionPlan:
        """Run ``Preparer.begin``. The process keeps running for the next task."""
        begun = cast(SupervisionPlan, self._call("begin"))
        self._stays = _has_autoscale(begun.programs)
        return begun

    def find(self) -> PreparedSystem:
        """Run ``Preparer.find``. The process keeps running for the next task."""
        return cast(PreparedSystem, self._call("find"))

    def prepare(self) -> PreparedPrograms | None:
        """Run ``Preparer.prepare``. After an error, the process keeps running for the next attempt."""
        return self._prepared("prepare")

    def finish(self) -> PreparedPrograms | None:
        """Run ``Preparer.finish``."""
        return self._prepared("finish")

    def _prepared(self, task: str) -> PreparedPrograms | None:
        prepared = cast("PreparedPrograms | None", self._call(task))
        if prepared is not None:
            self._stays = _has_autoscale(prepared.programs)
        self._end()
        return prepared

    def reload(self) -> PreparedPrograms:
        """Run ``Preparer.reload``."""
        try:
            prepared = cast(PreparedPrograms, self._call("reload"))
            self._stays = _has_autoscale(prepared.programs)
            return prepared
        finally:
            self._end()

    def ready_messages(self, service: str) -> int:
        """Run ``Preparer.ready_messages``."""
        return cast(int, self._call("ready_messages", service))

    def close(self) -> None:
        """Kill the process and its children. Every task can safely be interrupted at any point."""
        self._is_closed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # A task that is still running closes the stream itself, because the process has exited.
        if self._lock.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._lock.release()

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
        """Close the connection, wait until the process has exited, and return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(OSError):  # unsent data cannot be flushed either
            self._stream.close()
        return process.wait()

    def _start(self) -> None:
        if self._is_closed:
            raise OSError("the supervisor is exiting")
        ours, theirs = socket.socketpair()
        with theirs:
            # The process stays in the supervisor's session, so it is not mistaken for a process that a service left
            # behind. The process has its own process group, so that Ctrl-C signals only the supervisor.
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
        # A process that lacks a package exits without reading its task, but it has sent the error before.
        with contextlib.suppress(BrokenPipeError):
            self._send((task, arguments))
        while True:
            kind, *rest = pickle.load(self._stream)  # noqa: S301 - from a child process, over a private socket
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
