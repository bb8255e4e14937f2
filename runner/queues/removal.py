"""The removal of messages from a queue to a file or to another queue, with notes in the order history."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pika

from runner.admin.drain import Drain
from runner.admin.emptier import Emptier
from runner.admin.queue_counts import look
from runner.deadletters.dead_letter import DeadLetter, dead_letter_of
from runner.deadletters.discard_command import discard_note
from runner.deadletters.json_record import content_of
from runner.deadletters.origins import Origins
from runner.errors import Unroutable
from runner.invocation import invocation
from runner.messages import Event
from runner.queues.target import OpenProject

#: A function that creates the note about a message from the message and its number, or returns None for no note.
Noting = Callable[[DeadLetter, int], Event | None]


class Purge(Emptier):
    """A consumer that writes messages to a file and removes them from their queue, in batches."""

    window = 2000
    #: The number of messages in a batch.
    batch = 1000

    def __init__(
        self,
        url: str,
        queue: str,
        limit: int,
        write: Callable[[DeadLetter], None],
        save: Callable[[], None],
        note: Noting | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``write`` writes one message, and ``save`` returns when all written messages are on disk.

        ``note`` creates the event that records the removal of a message, from the message and its number. If ``note``
        returns None, no event is published. A message is removed only after the broker has confirmed the event.
        """
        super().__init__(url, "runner purge", queue, limit, on_progress, is_stopped)
        self._write, self._save, self._note = write, save, note
        self._kept: list[tuple[int, Event | None]] = []
        self._written = 0

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        message = dead_letter_of(self._queue, method, properties, body)
        self._write(message)
        note = None if self._note is None else self._note(message, self._written)
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


class Transfer(Drain):
    """A drain that moves the first messages of a queue to another queue.

    A full target refuses copies, and the original messages remain in the queue. The note about a message is therefore
    published only after the broker has confirmed the copy. A message is acknowledged even if the broker does not accept
    the note, so that the message is not in both queues.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        target: str,
        limit: int,
        note: Noting | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``note`` creates the event that records the removal of a message, as in ``Purge``."""
        super().__init__(url, queue, target, on_progress, limit=limit, is_stopped=is_stopped)
        self._where = f"queue {queue!r}"
        self._note = note
        #: The notes about messages whose copies are not confirmed yet, by delivery tag.
        self._notes: dict[int, Event] = {}
        #: The delivery tags of messages whose notes are not confirmed yet.
        self._noting: set[int] = set()
        #: The number of messages that were moved without a note.
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


def noting(site: OpenProject, queue: str, why: str, target: str | None = None) -> Noting | None:
    """Return a function that creates a note about each message removed from ``queue``, or None if no notes are needed.

    ``why`` is the reason in the note. A message that moves to ``target`` gets no note if the ledger still attributes
    the message to its original queue. Such targets are the original queue, its retry queues, and its dead-letter queue.

    Raises Unroutable if the queue for notes does not exist.
    """
    trace, places, now = site.attempts_queue, Origins.of(site.objects), int(time.time() * 1000)
    if trace is None or trace == queue:
        return None
    if look([site.url], [trace])[1][trace] is None:
        text = "does not exist, and messages are not removed without a note in the order history"
        raise Unroutable(f"queue {trace!r} {text}; to create the queue: {invocation('apply')}")

    def note(message: DeadLetter, number: int) -> Event | None:
        origin = places.origin_of(message) if queue in places.origins else places.waiting.get(queue, queue)
        if target is not None and origin is not None:
            retry = site.objects.retry_delays.get(origin)
            own = [] if retry is None else [retry.dead_letter, *(wait for _, wait in retry.steps)]
            if target in (origin, *own):
                return None
        past = {"origin": origin, "error": why, "replays": message.replays}
        return discard_note({**content_of(message), **past}, number, trace, now)

    return note
