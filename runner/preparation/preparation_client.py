"""The supervisor's side of the process that prepares: it is started when something is to be done, and ends after it."""

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

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class PreparationRequest:
    """What was given on the command line."""

    folder: str
    services: tuple[str, ...]
    log_format: str
    log_level: str


@dataclass(frozen=True)
class Begun:
    """What the files ask for."""

    programs: Sequence[Program]
    exits_on_fatal: bool
    #: Of log files: bytes of each, and how many are kept; None for none.
    logs: tuple[int, int] | None


@dataclass(frozen=True)
class PreparedSystem:
    """The broker: what is to run for it, and words for people."""

    programs: Sequence[Program]
    words: str
    #: Other lines that people should read at the start.
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Taken:
    """What runs from now on, and a line for each thing that would have to be replaced on the broker."""

    programs: Sequence[Program]
    left: Sequence[str]
    #: Whether ``finish`` has something to do once these programs run.
    is_unfinished: bool = False


class Preparation:
    """Calls the tasks of ``Preparer`` in its process; from any thread, one at a time. Errors are raised here."""

    def __init__(self, order: PreparationRequest) -> None:
        self._order = order
        #: Told of what people should know; the last thing said before there was anybody to tell is lost to nobody.
        self.say: Say = lambda text, level: None
        #: Whether it goes on running, because it is asked for queues again and again.
        self._stays = self._is_closed = False
        self._lock = threading.Lock()
        #: What the last process left to the next one; None before the first has done anything.
        self._memory: bytes | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # The first task needs it, and it takes longest to get there.
        self._start()

    def begin(self) -> Begun:
        """See ``Preparer.begin``; the process stays for what follows."""
        begun = cast(Begun, self._call("begin"))
        self._stays = _are_followed(begun.programs)
        return begun

    def find(self) -> PreparedSystem:
        """See ``Preparer.find``; the process stays for what follows."""
        return cast(PreparedSystem, self._call("find"))

    def prepare(self) -> Taken | None:
        """See ``Preparer.prepare``; where it fails the process stays, because it is tried again soon."""
        return self._prepared("prepare")

    def finish(self) -> Taken | None:
        """See ``Preparer.finish``."""
        return self._prepared("finish")

    def _prepared(self, task: str) -> Taken | None:
        taken = cast("Taken | None", self._call(task))
        if taken is not None:
            self._stays = _are_followed(taken.programs)
        self._end()
        return taken

    def take_over(self) -> Taken:
        """See ``Preparer.take_over``."""
        try:
            taken = cast(Taken, self._call("take_over"))
            self._stays = _are_followed(taken.programs)
            return taken
        finally:
            self._end()

    def ready_messages(self, service: str) -> int:
        """See ``Preparer.ready_messages``."""
        return cast(int, self._call("ready_messages", service))

    def close(self) -> None:
        """End the process and what it runs itself, whatever it is at: every task may be interrupted at any point."""
        self._is_closed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _call(self, task: str, *arguments: Any) -> Any:
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._forget()  # it was killed while it had nothing to do
            try:
                if self._process is None:
                    self._start()
                result = self._converse(task, arguments)
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                code = self._forget()
                words = f"has ended with {code}" if code else f"cannot be run, {error}"
                raise BrokerError(f"what reads the files and declares the topology {words}") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _end(self) -> None:
        with self._lock:
            if not self._stays:
                self._forget()

    def _forget(self) -> int:
        """Have the process end, should it still run; returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(OSError):  # what could not be sent cannot be flushed either
            self._stream.close()
        return process.wait()

    def _start(self) -> None:
        if self._is_closed:
            raise OSError("the runner ends")
        ours, theirs = socket.socketpair()
        with theirs:
            # In this session, which tells it from what services left behind; in a group of its own, because Ctrl-C is
            # for the supervisor alone to act on.
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
            kind, *rest = pickle.load(self._stream)  # noqa: S301 - from a process of our own, over a socket of our own
            if kind == "say":
                self.say(*rest)
            else:
                result, self._memory = rest
                return result

    def _send(self, value: Any) -> None:
        pickle.dump(value, self._stream)
        self._stream.flush()


def _are_followed(programs: Sequence[Program]) -> bool:
    return any(program.autoscale is not None for program in programs)
