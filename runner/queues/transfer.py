"""Move messages of a queue to another queue, each message acknowledged only after the confirm of its copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from runner.amqp.properties import encode, moved_properties
from runner.deadletters.browser import dead_letter_of
from runner.deadletters.dead_letter import DeadLetter
from runner.errors import RunnerError
from runner.headers import name_of
from runner.messages import Event
from runner.queues.emptier import Emptier


class Transfer(Emptier):
    """A consumer that moves the first messages of a queue, in order, with the properties and headers as a drain.

    If it is interrupted, the messages that are not moved stay in their queue. After a kill, copies of some of them may
    be in the target already.

    A message is noted only when its copy is confirmed, because a target that is full refuses messages, which stay. If
    the queue of the notes takes none, the message is acknowledged all the same, so that it is not in both queues.
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
        super().__init__(url, "runner move", queue, limit, on_progress, is_stopped)
        self._target, self._note = target, note
        #: Notes of the messages whose copies are not confirmed yet, by delivery tag.
        self._notes: dict[int, Event] = {}
        #: Delivery tags of messages whose notes are not confirmed yet.
        self._noting: set[int] = set()
        #: How many messages are moved without their note.
        self.unnoted = 0

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        try:
            copy = moved_properties(method, properties, is_aside=False)
        except ValueError as error:
            name = name_of(properties.message_id) or "without an id"
            # Without this error, later messages would overtake the message.
            raise RunnerError(f"message {name}: {error}; export and remove it, then run this again") from None
        if self._note is not None:
            note = self._note(dead_letter_of(self._queue, method, properties, body), self._taken)
            if note is not None:
                self._notes[method.delivery_tag] = note
        self._publish(method.delivery_tag, "", self._target, body, copy)

    def _is_safe(self, tag: int) -> bool:
        self._noting.discard(tag)
        note = self._notes.pop(tag, None)
        if note is None:
            return True
        self._noting.add(tag)
        one = encode(note)
        self._publish(tag, note.exchange or "", note.routing_key or "", one.body, one.properties)
        return False

    def _lose(self, tag: int) -> None:
        self._notes.pop(tag, None)
        if tag in self._noting:
            self._noting.remove(tag)
            self.unnoted += 1
            self._settle([tag])
