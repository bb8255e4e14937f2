"""A child process, with its notifications, its output and its exit. The event loop never waits for the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from runner.ipc.shared_memory import CurrentMessage, WorkerCounters
from runner.ipc.step_memory import StepReader
from runner.supervisor.processes.process import Process
from runner.supervisor.program import Program

#: The maximum length of an output line, in bytes. Longer lines are split.
MAX_LINE = 64 * 1024
#: The maximum number of consecutive reads from one child, so that a verbose child does not delay other children.
MAX_READS = 16
#: Seconds to wait for the remaining output of an exited child. A surviving grandchild can keep the pipe open.
DRAIN_TIME = 0.5


class LineSplitter:
    """A buffer that splits a stream of bytes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add a chunk of bytes, and return all lines that are now complete."""
        *whole, rest = (self._rest + data).split(b"\n")
        lines = []
        for line in whole:
            lines += _pieces(line.rstrip(b"\r")) or [b""]
        *full, self._rest = _pieces(rest) or [b""]
        return lines + full

    def rest(self) -> list[bytes]:
        """Remove and return the incomplete last line, if any."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]


class LineReader:
    """A reader that passes lines from a file descriptor to ``on_lines``, and closes the descriptor at end-of-file."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, on_lines: Callable[[Sequence[bytes]], None]
    ) -> None:
        self._loop, self._descriptor, self._on_lines = loop, descriptor, on_lines
        self._splitter = LineSplitter()
        self._is_open = True
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self._read)

    def finish(self, grace: float) -> None:
        """Read the remaining output of an exited child, and close the descriptor after at most ``grace`` seconds.

        A surviving grandchild can keep the other end of the pipe open indefinitely.
        """
        self._read()
        if not grace:
            self.close()
        elif self._is_open:
            self._loop.call_later(grace, self.close)

    def close(self) -> None:
        """Stop reading. An incomplete last line is passed on like any other line."""
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
    """A child process that runs a program.

    ``on_exit`` is called once with the exit code, after the last notification.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        program: Program,
        slot: str,
        instance: str,
        on_words: Callable[[Sequence[bytes]], None],
        on_lines: Callable[[Sequence[bytes]], None],
        on_exit: Callable[[int], None],
        crashing_messages: int,
    ) -> None:
        """Start the process, which inherits the file descriptor ``crashing_messages``.

        Raises OSError if the start fails.
        """
        self._loop, self._on_exit = loop, on_exit
        #: The name of this instance in the environments of the process and its descendants.
        self.instance = instance
        self._process = Process(program, slot, instance, crashing_messages)
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
        """The pid of the process, which is also the id of its process group."""
        return self._process.pid

    def counts(self) -> WorkerCounters:
        """Return the counters of the worker since its start."""
        return self._process.record.read()

    def messages(self) -> list[CurrentMessage]:
        """Return the messages that the process's handlers are processing, or were processing at its exit."""
        return self._process.record.messages()

    @property
    def steps(self) -> StepReader:
        """The steps of the worker since its start. They can be read even after the exit of the process."""
        return self._process.record.steps

    @property
    def is_leaving(self) -> bool:
        """True if the process is exiting voluntarily."""
        return self._process.record.is_leaving

    def answer(self, word: str, listener: socket.socket | None = None) -> None:
        """Send a response to the process, with a listening socket if one was opened."""
        descriptors = [] if listener is None else [listener.fileno()]
        with contextlib.suppress(OSError):  # the process has exited in the meantime
            socket.send_fds(self._process.lifeline, [word.encode() + b"\n"], descriptors)

    def terminate(self) -> None:
        """Ask the process to stop."""
        self._process.terminate()

    def abort(self) -> None:
        """Make the process print the stacks of its threads and exit."""
        self._process.abort()

    def kill(self) -> None:
        """Kill the process and its whole process group."""
        self._process.kill()

    def _ended(self) -> None:
        self._loop.remove_reader(self._process.exit_descriptor)
        self._words.finish(0)  # without a delay, so that no late notification is attributed to the next process
        self._output.finish(DRAIN_TIME)
        self._on_exit(self._process.reap())
