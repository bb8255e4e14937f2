"""The steps of all slots: totals that survive restarts, and the latest steps while a client watches them."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable

from runner.ipc.step_memory import MessageStep, StepReader, StepTotals

#: The maximum number of edges whose totals are kept for the ended processes of one slot.
MOST_KEPT = 256
#: The maximum number of steps of ended processes that wait for the next snapshot.
MOST_WAITING = 5000

#: A slot name and one of its steps.
SlotStep = tuple[str, MessageStep]


class LiveSteps:
    """The totals and the latest steps of all slots. While no client watches, only the totals are kept."""

    def __init__(self) -> None:
        self._ended: dict[str, StepTotals] = {}
        self._is_watched = False
        self._waiting: deque[SlotStep] = deque(maxlen=MOST_WAITING)
        self._lost = 0

    def totals(self, slot: str, readers: Iterable[StepReader]) -> StepTotals:
        """Return the totals of a slot: those of its ended processes, and those of ``readers``."""
        found = StepTotals()
        for one in (self._ended.get(slot, StepTotals()), *(reader.totals() for reader in readers)):
            found.add(one, MOST_KEPT)
        return found

    def removed(self, slots: Container[str]) -> list[str]:
        """Return the slots with totals that are not in ``slots``, because their service has fewer instances."""
        return [name for name in self._ended if name not in slots]

    def end(self, slot: str, reader: StepReader) -> None:
        """Keep the totals and the latest steps of a process that has exited."""
        self._ended.setdefault(slot, StepTotals()).add(reader.totals(), MOST_KEPT)
        if self._is_watched:
            self._read(slot, reader)

    def forget(self, service: str) -> None:
        """Forget the totals of a removed service."""
        for slot in [one for one in self._ended if one.rpartition(".")[0] == service]:
            del self._ended[slot]

    def start(self, reader: StepReader) -> None:
        """Add a new process."""
        if self._is_watched:
            reader.watch()

    def begin(self, readers: Iterable[StepReader]) -> None:
        """Start to collect the steps of the running processes."""
        self._is_watched = True
        for reader in readers:
            reader.watch()

    def stop(self, readers: Iterable[StepReader]) -> None:
        """Stop collecting the steps of the running processes."""
        self._is_watched = False
        for reader in readers:
            reader.stop()
        self._waiting.clear()
        self._lost = 0

    def take(self, readers: Iterable[tuple[str, StepReader]]) -> tuple[list[SlotStep], int]:
        """Return the steps since the last call, ordered by time, and the number of lost steps."""
        for slot, reader in readers:
            self._read(slot, reader)
        found, lost = sorted(self._waiting, key=lambda one: one[1].time), self._lost
        self._waiting.clear()
        self._lost = 0
        return found, lost

    def _read(self, slot: str, reader: StepReader) -> None:
        steps, lost = reader.steps()
        self._lost += lost + max(0, len(self._waiting) + len(steps) - MOST_WAITING)
        self._waiting.extend((slot, step) for step in steps)
