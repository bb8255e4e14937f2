"""Remove the messages of a queue, each message only when it is in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from runner.admin.emptier import Emptier
from runner.deadletters.dead_letter import DeadLetter, dead_letter_of
from runner.messages import Event


class Purge(Emptier):
    """A consumer that writes messages to a file and removes them from their queue, many at once."""

    window = 2000
    #: The number of messages that are written before they are removed.
    batch = 1000

    def __init__(
        self,
        url: str,
        queue: str,
        limit: int,
        write: Callable[[DeadLetter], None],
        save: Callable[[], None],
        note: Callable[[DeadLetter, int], Event | None] | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``write`` writes one message, and ``save`` returns when all written messages are on the disk.

        ``note`` makes the event that records the removal of a message, from the message and its number, or None for a
        message without one. The broker confirms the event before the message is removed.
        """
        super().__init__(url, "runner purge", queue, limit, on_progress, is_stopped)
        self._write, self._save, self._note = write, save, note
        self._kept: list[tuple[int, Event | None]] = []
        self._written = 0

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        letter = dead_letter_of(self._queue, method, properties, body)
        self._write(letter)
        note = None if self._note is None else self._note(letter, self._written)
        self._written += 1
        self._kept.append((method.delivery_tag, note))
        if len(self._kept) >= self.batch:
            self._flush()

    def _flush(self) -> None:
        kept, self._kept = self._kept, []
        if not kept:
            return
        self._save()
        self._settle([tag for tag, note in kept if note is None])
        for tag, note in kept:
            if note is not None:
                self._publish_event(tag, note)
