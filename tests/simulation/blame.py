"""Which deaths speak against which message, by the words of docs/delivery.md and not by the code that counts them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.messages import Message
from runner.worker.crash_protection import SETTLE
from tests.simulation.clock import Clock
from tests.simulation.history import History
from tests.simulation.supervisor import End

if TYPE_CHECKING:
    from tests.simulation.process import Process

#: Of the deaths that come from outside every fourth counts.
OUTSIDE_COUNTS = 4


@dataclass(frozen=True)
class _Death:
    when: float
    #: ``alone``, ``outside`` or ``shared``.
    kind: str


class Blame:
    """Told of each handler that begins, and of each death."""

    def __init__(self, history: History, clock: Clock, max_crashes: int) -> None:
        self._history, self._clock, self._max_crashes = history, clock, max_crashes
        self._deaths: defaultdict[str, list[_Death]] = defaultdict(list)
        self._names: dict[str, str] = {}

    def begun(self, process: Process, message: Message) -> None:
        """A handler begins: not with what has killed too often, and alone with what has killed at all."""
        name = self._names[message.id] = message.json()["m"]
        # What the supervisor noticed for certain.
        known = self._clock.now - SETTLE
        if self._count(name, known) >= self._max_crashes:
            self._history.fail("poison", f"{name} is handled in spite of {self.of(name)}")
        beside = (
            set()
            if len(process.threads) == 1
            else {self._names.get(one.id, one.id) for one in process.file.messages()} - {name}
        )
        for suspect in {name, *beside} if beside else ():
            if self._is_suspect(suspect, known if suspect == name else min(known, process.began[suspect])):
                self._history.fail("suspects alone", f"{name} is handled beside {sorted(beside)}, {suspect} is suspect")
        if self._is_suspect(name, known):
            self._history.hit("a suspect is handled alone")
        process.began[name] = known

    def died(self, process: Process, end: End) -> None:
        """A worker died that was not told to."""
        names = {self._names.get(one.id, one.id) for one in process.file.messages()}
        if process.is_stopping and not end.is_over_memory and (not end.why or end.code == 0):
            if names:
                self._history.hit("a death while stopping, with messages in hand")
            return
        kind = "outside" if end.is_outside else "shared" if len(names) > 1 else "alone"
        if names:
            self._history.hit(f"a death, {kind}")
        for name in names:
            self._deaths[name].append(_Death(self._clock.now, kind))

    def _count(self, name: str, until: float) -> int:
        kinds = [death.kind for death in self._deaths[name] if death.when <= until]
        return kinds.count("alone") + kinds.count("outside") // OUTSIDE_COUNTS

    def _is_suspect(self, name: str, until: float) -> bool:
        is_shared = any(death.kind == "shared" and death.when <= until for death in self._deaths[name])
        return is_shared or self._count(name, until) > 0

    def is_guilty(self, crashes: int, name: str) -> bool:
        """Whether a message may be parked for its deaths, with this many told."""
        return self._count(name, self._clock.now) >= self._max_crashes and crashes <= len(self._deaths[name])

    def of(self, name: str) -> list[str]:
        """In words."""
        return [f"{death.kind} at {death.when:.3f}" for death in self._deaths[name]]

    def alone(self, name: str) -> int:
        """How many workers died with it alone in hand."""
        return sum(death.kind == "alone" for death in self._deaths[name])
