"""Move messages of a queue to another queue, with a note of each in the order history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from runner.admin.drain import Drain
from runner.deadletters.dead_letter import DeadLetter, dead_letter_of
from runner.messages import Event


class Transfer(Drain):
    """A drain of the first messages of a queue.

    A message is noted only when its copy is confirmed, because a target that is full refuses messages, which stay. If
    the queue of the notes takes or confirms none, the message is acknowledged all the same, so that it is not in both
    queues.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        target: str,
        limit: int,
        note: Callable[[DeadLetter, int], Event | None] | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``note`` makes the event that records the removal of a message, as for a purge."""
        super().__init__(url, queue, target, on_progress, limit=limit, is_stopped=is_stopped)
        self._where = f"queue {queue!r}"
        self._note = note
        #: Notes of the messages whose copies are not confirmed yet, by delivery tag.
        self._notes: dict[int, Event] = {}
        #: Delivery tags of messages whose notes are not confirmed yet.
        self._noting: set[int] = set()
        #: How many messages are moved without their note.
        self.unnoted = 0

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        if self._note is not None:
            note = self._note(dead_letter_of(self._queue, method, properties, body), self._taken)
            if note is not None:
                self._notes[method.delivery_tag] = note
        super()._take(method, properties, body)

    def _is_safe(self, tag: int) -> bool:
        self._noting.discard(tag)
        note = self._notes.pop(tag, None)
        if note is None:
            return True
        self._noting.add(tag)
        self._publish_event(tag, note)
        return False

    def _lose(self, tag: int) -> None:
        self._notes.pop(tag, None)
        if tag in self._noting:
            self._noting.remove(tag)
            self.unnoted += 1
            self._settle([tag])

    def _give_up(self) -> None:
        for tag in sorted(self._noting):
            self._lose(tag)
