"""Which queues lead to which dead-letter queue, and so where a parked message came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.headers import FIRST_DEATH_QUEUE, ORIGIN_QUEUE
from runner.topology.model import Objects
from runner.topology.rename import RETRY


@dataclass(frozen=True)
class Origins:
    """The dead-letter queues of a topology."""

    #: The queues whose failed messages are parked there, by the dead-letter queue's name.
    origins: Mapping[str, tuple[str, ...]]
    #: The queue to which a wait queue returns its messages, by the wait queue's name.
    waiting: Mapping[str, str]
    #: The present name of each queue that has another name now, by its former name.
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Objects) -> Origins:
        """Those of a compiled topology, in its order."""
        origins: dict[str, tuple[str, ...]] = {}
        for name, ladder in objects.ladders.items():
            origins[ladder.dead_letter] = (*origins.get(ladder.dead_letter, ()), name)
        waiting = {wait: name for name, ladder in objects.ladders.items() for _, wait in ladder.steps}
        return cls(origins, waiting, {old: name for name, old in objects.formerly.items()})

    @property
    def names(self) -> list[str]:
        """All that ``--queue`` may name."""
        return [*self.origins, *(one for names in self.origins.values() for one in names)]

    def choose(self, queue: str | None) -> tuple[list[str], str | None]:
        """The dead-letter queues to look into, and the only origin that is meant there, None for all.

        Raises KeyError for a name that is neither.
        """
        if queue is None:
            return list(self.origins), None
        if queue in self.origins:
            return [queue], None
        found = next((name for name, names in self.origins.items() if queue in names), None)
        if found is None:
            raise KeyError(queue)
        return [found], queue

    def origin_of(self, letter: DeadLetter) -> str | None:
        """The queue in which a parked message failed, or None where nothing tells it."""
        leading = self.origins.get(letter.queue, ())
        dead = [text_of(one.get("queue")) for one in letter.deaths]
        for name in dead:
            # The broker's latest word; a header of ours may tell of an earlier parking, in another queue.
            if name in leading:
                return name
        first = text_of(letter.headers.get(FIRST_DEATH_QUEUE))
        for name in (text_of(letter.trusted_headers.get(ORIGIN_QUEUE)), *dead, first):
            if name and name != letter.queue:
                return self._present(self.waiting.get(name, name))
        return leading[0] if len(leading) == 1 else None

    def _present(self, name: str) -> str:
        """Return the present name of a queue, also of one that returned its messages to a renamed queue."""
        origin, word, _ = name.partition(RETRY)
        return self.renamed.get(name) or (self.renamed.get(origin) if word else None) or name
