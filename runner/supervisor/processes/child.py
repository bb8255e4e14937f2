"""A process and what comes from it: its words, its output, its end, each handed on by the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from runner.ipc.shared_memory import CurrentMessage, WorkerCounters
from runner.supervisor.processes.lines import LineReader
from runner.supervisor.processes.process import Process
from runner.supervisor.program import Program

#: Seconds for the rest of a dead child's output; a grandchild that escaped may hold the pipe open for ever.
DRAIN_TIME = 0.5


class Child:
    """Runs one program; ``on_exit`` gets its exit code once, after its last word."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        program: Program,
        slot: str,
        instance: str,
        on_words: Callable[[Sequence[bytes]], None],
        on_lines: Callable[[Sequence[bytes]], None],
        on_exit: Callable[[int], None],
        suspects: int,
    ) -> None:
        """Spawn it; ``suspects`` is a descriptor of the messages that are suspect. Raises OSError where that fails."""
        self._loop, self._on_exit = loop, on_exit
        #: What it calls itself in the environment of all that descend from it.
        self.instance = instance
        self._process = Process(program, slot, instance, suspects)
        try:
            words = os.dup(self._process.lifeline.fileno())
        except OSError:
            os.close(self._process.output)
            self._process.reap()
            raise
        self._words = LineReader(loop, words, on_words)
        self._output = LineReader(loop, self._process.output, on_lines)
        loop.add_reader(self._process.exit_descriptor, self._ended)

    @property
    def pid(self) -> int:
        """Its process's number, which is that of its group too."""
        return self._process.pid

    def counts(self) -> WorkerCounters:
        """What it did since it began."""
        return self._process.record.read()

    def messages(self) -> list[CurrentMessage]:
        """What its handlers were at."""
        return self._process.record.messages()

    @property
    def is_leaving(self) -> bool:
        """Whether it has decided itself to end."""
        return self._process.record.is_leaving

    def answer(self, word: str, listener: socket.socket | None = None) -> None:
        """Send one word down its lifeline, with a listening socket where it asked for one."""
        descriptors = [] if listener is None else [listener.fileno()]
        with contextlib.suppress(OSError):  # it has ended meanwhile
            socket.send_fds(self._process.lifeline, [word.encode() + b"\n"], descriptors)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def abort(self) -> None:
        """Have it write down where its threads are, and end."""
        self._process.abort()

    def kill(self) -> None:
        """End it with its whole group."""
        self._process.kill()

    def _ended(self) -> None:
        self._loop.remove_reader(self._process.exit_descriptor)
        self._words.finish(0)  # at once, so that no late word is taken for one of the next process
        self._output.finish(DRAIN_TIME)
        self._on_exit(self._process.reap())
