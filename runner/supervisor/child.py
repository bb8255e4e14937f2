"""A process and what comes from it: its words, its output, its end, each handed on by the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.supervisor.lines import LineReader
from runner.supervisor.process import Process
from runner.supervisor.program import Program

#: Seconds for the rest of a dead child's output; a grandchild that escaped may hold the pipe open for ever.
DRAIN_TIME = 0.5


class Child:
    """Runs one program; ``on_exit`` gets its exit code once, after its last word."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        program: Program,
        on_word: Callable[[bytes], None],
        on_line: Callable[[bytes], None],
        on_exit: Callable[[int], None],
    ) -> None:
        """Spawn it. Raises OSError where that fails."""
        self._loop, self._on_exit = loop, on_exit
        self._process = Process(program)
        self._words = LineReader(loop, self._process.lifeline, on_word)
        self._output = LineReader(loop, self._process.output, on_line)
        loop.add_reader(self._process.exit_descriptor, self._ended)

    @property
    def pid(self) -> int:
        """Its process's number, which is that of its group too."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def kill(self) -> None:
        """End it with its whole group."""
        self._process.kill()

    def _ended(self) -> None:
        self._loop.remove_reader(self._process.exit_descriptor)
        self._words.finish(0)  # at once, so that no late word is taken for one of the next process
        self._output.finish(DRAIN_TIME)
        self._on_exit(self._process.reap())
