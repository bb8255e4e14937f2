"""The blame of messages for the deaths of their workers, by the rules of docs/delivery.md.

It shares no code with the product.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.messages import Message
from runner.worker.crash_protection import NOTICE_TIME
from tests.simulation.clock import Clock
from tests.simulation.history import History
from tests.simulation.supervisor import End

if TYPE_CHECKING:
    from tests.simulation.process import Process

#: Every fourth death from outside counts against a message.
OUTSIDE_COUNTS = 4


@dataclass(frozen=True)
class _Death:
    when: float
    #: ``alone``, ``outside`` or ``shared``.
    kind: str


class Blame:
    """The record of started handlers and of deaths, which checks the rules for crashing messages."""

    def __init__(self, history: History, clock: Clock, max_crashes: int) -> None:
        self._history, self._clock, self._max_crashes = history, clock, max_crashes
        self._deaths: defaultdict[str, list[_Death]] = defaultdict(list)
        self._names: dict[str, str] = {}

    def begun(self, process: Process, message: Message) -> None:
        """Record that a handler starts.

        Its message must not be a poison message, and a blamed message must be alone.
        """
        name = self._names[message.id] = message.json()["m"]
        # The supervisor has certainly noticed these deaths.
        known = self._clock.now - NOTICE_TIME
        if self._count(name, known) >= self._max_crashes:
            self._history.fail("poison", f"{name} is handled although its workers died: {self.of(name)}")
        beside = (
            set()
            if len(process.threads) == 1
            else {self._names.get(one.id, one.id) for one in process.file.messages()} - {name}
        )
        for blamed in {name, *beside} if beside else ():
            if self._is_blamed(blamed, known if blamed == name else min(known, process.began[blamed])):
                self._history.fail(
                    "blamed messages alone",
                    f"{name} is handled beside {sorted(beside)}, {blamed} is blamed for a death",
                )
        if self._is_blamed(name, known):
            self._history.hit("a blamed message is handled alone")
        process.began[name] = known

    def died(self, process: Process, end: End) -> None:
        """Record the death of a worker that was not asked to stop."""
        names = {self._names.get(one.id, one.id) for one in process.file.messages()}
        if process.is_stopping and not end.is_over_memory and (not end.why or end.code == 0):
            if names:
                self._history.hit("a death while stopping, with unacked messages")
            return
        kind = "outside" if end.is_outside else "shared" if len(names) > 1 else "alone"
        if names:
            self._history.hit(f"a death, {kind}")
        for name in names:
            self._deaths[name].append(_Death(self._clock.now, kind))

    def _count(self, name: str, until: float) -> int:
        kinds = [death.kind for death in self._deaths[name] if death.when <= until]
        return kinds.count("alone") + kinds.count("outside") // OUTSIDE_COUNTS

    def _is_blamed(self, name: str, until: float) -> bool:
        is_shared = any(death.kind == "shared" and death.when <= until for death in self._deaths[name])
        return is_shared or self._count(name, until) > 0

    def is_guilty(self, crashes: int, name: str) -> bool:
        """Return True if the recorded deaths allow the message to be dead-lettered for ``crashes`` crashes."""
        return self._count(name, self._clock.now) >= self._max_crashes and crashes <= len(self._deaths[name])

    def of(self, name: str) -> list[str]:
        """Return the deaths that count against a message, as text."""
        return [f"{death.kind} at {death.when:.3f}" for death in self._deaths[name]]

    def alone(self, name: str) -> int:
        """Return the number of workers that died while the message was their only unacked message."""
        return sum(death.kind == "alone" for death in self._deaths[name])
