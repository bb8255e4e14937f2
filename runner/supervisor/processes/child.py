"""A process and what comes from it: its words, its lines of output, its end, each handed on by the event loop.

The loop never waits for a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from runner.ipc.shared_memory import CurrentMessage, WorkerCounters
from runner.supervisor.processes.process import Process
from runner.supervisor.program import Program

#: A longer line is cut into pieces of this many bytes.
MAX_LINE = 64 * 1024
#: How many pieces are read at once, so that one child that floods leaves time for the others.
MAX_READS = 16
#: Seconds for the rest of a dead child's output; a grandchild that escaped may hold the pipe open for ever.
DRAIN_TIME = 0.5


class LineSplitter:
    """Bytes in whatever pieces they come to whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete with ``data``."""
        *whole, rest = (self._rest + data).split(b"\n")
        lines = []
        for line in whole:
            lines += _pieces(line.rstrip(b"\r")) or [b""]
        *full, self._rest = _pieces(rest) or [b""]
        return lines + full

    def rest(self) -> list[bytes]:
        """What came after the last line's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]


class LineReader:
    """Calls ``on_lines`` with what lines come from a descriptor, which it takes over and closes at the end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, on_lines: Callable[[Sequence[bytes]], None]
    ) -> None:
        self._loop, self._descriptor, self._on_lines = loop, descriptor, on_lines
        self._splitter = LineSplitter()
        self._is_open = True
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._read)

    def finish(self, grace: float) -> None:
        """The child has ended: take what is there, wait at most ``grace`` seconds for the rest, and close.

        A grandchild that escaped may hold the other end open for ever.
        """
        self._read()
        if not grace:
            self.close()
        elif self._is_open:
            self._loop.call_later(grace, self.close)

    def close(self) -> None:
        """Stop reading; a last line without an end counts as one."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._deliver(self._splitter.rest())

    def _read(self) -> None:
        for _ in range(MAX_READS):
            if not self._is_open:
                return
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._deliver(self._splitter.feed(data))
            else:
                self.close()

    def _deliver(self, lines: list[bytes]) -> None:
        if lines:
            self._on_lines(lines)


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
