"""The log lines that one client of the control socket follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from runner.supervisor.output.line import InOrder, Line

#: The maximum number of waiting lines for each client. Above this number, the oldest lines are dropped and counted.
MAX_WAITING = 5000
#: The slot name in the supervisor's own log lines.
RUNNER = "runner"

Answer = dict[str, Any]
Send = Callable[[Answer], Awaitable[None]]


class Followed:
    """The log lines that ``is_wanted`` accepts, sorted by time after a delay of ``hold`` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_wanted: Callable[[Line], bool], hold: float = 0.0) -> None:
        self._loop, self._is_wanted = loop, is_wanted
        self._held = InOrder(hold)
        self._lines: list[Line] = []
        self._dropped = 0
        self._there = asyncio.Event()
        self._is_finished = False

    def take(self, lines: Sequence[Line]) -> None:
        """Add log lines from any thread."""
        wanted = [line for line in lines if self._is_wanted(line)]
        if wanted and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, wanted)

    def finish(self) -> None:
        """Make ``send`` return as soon as the waiting lines are sent."""
        self._is_finished = True
        self._there.set()

    async def send(self, send: Send) -> None:
        """Send log lines until ``finish`` is called."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._held.wait):
                    await self._there.wait()
            self._there.clear()
            lines, self._lines = self._lines, []
            dropped, self._dropped = self._dropped, 0
            if dropped:
                await send({"dropped": dropped})
            self._held.add(lines)
            is_last = self._is_finished
            for line in self._held.take(everything=is_last):
                await send(line_object(line))
            if is_last and not self._lines:
                return

    def _add(self, lines: Sequence[Line]) -> None:
        self._lines.extend(lines)
        if len(self._lines) > MAX_WAITING:
            self._dropped += len(self._lines) - MAX_WAITING
            del self._lines[:-MAX_WAITING]
        self._there.set()


def reworded(answer: Answer, own: str, theirs: str) -> Answer:
    """Return a response in which commands start with the client's invocation.

    Log lines from services are not changed.
    """
    if own == theirs or answer.get("line", {}).get("slot", RUNNER) != RUNNER:
        return answer
    return {name: _reworded(value, own, theirs) for name, value in answer.items()}


def _reworded(value: Any, own: str, theirs: str) -> Any:
    if isinstance(value, str):
        return value.replace(own, theirs)
    if isinstance(value, dict):
        return {name: value if name == "lines" else _reworded(value, own, theirs) for name, value in value.items()}
    return [_reworded(one, own, theirs) for one in value] if isinstance(value, list) else value


def line_object(line: Line) -> Answer:
    """Return a log line as a JSON object for the control socket."""
    text = line.text if isinstance(line.text, str) else line.text.decode("utf-8", "backslashreplace")
    return {"line": {"time": line.time, "slot": line.slot, "text": text, "level": line.level}}
