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
        #: The number of the last step that was read from each process, or None if no client watches.
        self._seen: dict[StepReader, int] | None = None
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
        if self._seen is not None:
            self._read(slot, reader, self._seen.pop(reader, 0))

    def forget(self, service: str) -> None:
        """Forget the totals of a removed service."""
        for slot in [one for one in self._ended if one.rpartition(".")[0] == service]:
            del self._ended[slot]

    def begin(self, readers: Iterable[tuple[str, StepReader]]) -> None:
        """Start to collect steps. ``readers`` are the running processes, whose earlier steps are ignored."""
        self._seen = {reader: reader.last for _, reader in readers}

    def stop(self) -> None:
        """Stop collecting steps."""
        self._seen = None
        self._waiting.clear()
        self._lost = 0

    def take(self, readers: Iterable[tuple[str, StepReader]]) -> tuple[list[SlotStep], int]:
        """Return the steps since the last call, ordered by time, and the number of lost steps."""
        if self._seen is not None:
            for slot, reader in readers:
                self._seen[reader] = self._read(slot, reader, self._seen.get(reader, 0))
        found, lost = sorted(self._waiting, key=lambda one: one[1].time), self._lost
        self._waiting.clear()
        self._lost = 0
        return found, lost

    def _read(self, slot: str, reader: StepReader, seen: int) -> int:
        """Read the steps after ``seen``, and return the number of the last step."""
        steps, last, lost = reader.steps(seen)
        self._lost += lost + max(0, len(self._waiting) + len(steps) - MOST_WAITING)
        self._waiting.extend((slot, step) for step in steps)
        return last
