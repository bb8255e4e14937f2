"""The queues that use each dead-letter queue, and the queue in which a dead letter failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.deadletters.dead_letter import DeadLetter, text_of
from runner.headers import FIRST_DEATH_QUEUE, ORIGIN_QUEUE
from runner.topology.model import Objects
from runner.topology.rename import RETRY


@dataclass(frozen=True)
class Origins:
    """The dead-letter queues of a topology, and the queues that dead-letter messages to them."""

    #: For each dead-letter queue, the queues that dead-letter messages to it.
    origins: Mapping[str, tuple[str, ...]]
    #: For each retry queue, the queue to which it returns messages.
    waiting: Mapping[str, str]
    #: The current name of each renamed queue, by its old name.
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Objects) -> Origins:
        """Return the origins in a compiled topology, in the same order."""
        origins: dict[str, tuple[str, ...]] = {}
        for name, retry in objects.retry_delays.items():
            origins[retry.dead_letter] = (*origins.get(retry.dead_letter, ()), name)
        waiting = {wait: name for name, retry in objects.retry_delays.items() for _, wait in retry.steps}
        return cls(origins, waiting, {old: name for name, old in objects.formerly.items()})

    @property
    def names(self) -> list[str]:
        """The names that ``--queue`` accepts."""
        return [*self.origins, *(one for names in self.origins.values() for one in names)]

    def choose(self, queue: str | None) -> tuple[list[str], str | None]:
        """Return the dead-letter queues to read, and the queue of origin to select, or None for all origins.

        Raises KeyError if ``queue`` is neither a dead-letter queue nor a queue of origin.
        """
        if queue is None:
            return list(self.origins), None
        if queue in self.origins:
            return [queue], None
        found = next((name for name, names in self.origins.items() if queue in names), None)
        if found is None:
            raise KeyError(queue)
        return [found], queue

    def origin_of(self, message: DeadLetter) -> str | None:
        """Return the queue in which a dead letter failed, or None if the queue is unknown."""
        leading = self.origins.get(message.queue, ())
        dead = [text_of(one.get("queue")) for one in message.deaths]
        for name in dead:
            # The broker's entry is about the latest failure. The worker's header can be about an earlier failure in
            # another queue.
            if name in leading:
                return name
        first = text_of(message.headers.get(FIRST_DEATH_QUEUE))
        for name in (text_of(message.trusted_headers.get(ORIGIN_QUEUE)), *dead, first):
            if name and name != message.queue:
                return self._present(self.waiting.get(name, name))
        return leading[0] if len(leading) == 1 else None

    def _present(self, name: str) -> str:
        """Return the current name of a queue. For a retry queue, return the current name of its original queue."""
        origin, word, _ = name.partition(RETRY)
        return self.renamed.get(name) or (self.renamed.get(origin) if word else None) or name
