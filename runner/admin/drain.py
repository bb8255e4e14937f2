"""A drain, which moves messages to another queue. A message is acknowledged after the broker has confirmed its copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pika
from pika.channel import Channel

from runner.admin.emptier import EMPTY_ANSWERS, Emptier
from runner.admin.queue_counts import counts_of
from runner.amqp.properties import moved_properties
from runner.amqp.reply_code import CloseKind, close_of
from runner.config.version import CLASSIC
from runner.errors import RunnerError
from runner.headers import name_of

#: A drain of a source that still gets messages stops after twice ``enough`` messages, plus this number.
HEADSTART = 1000
#: Seconds between two progress reports.
PROGRESS = 1.0
#: Seconds within which other consumers of an empty source must disappear, and seconds between two counts of them. A
#: busy broker removes the consumer of a killed process late.
CONSUMER_TIMEOUT, CONSUMER_INTERVAL = 3.0, 0.2


class MessagesDeleted(RunnerError):
    """The error for messages that arrived in a queue just as the queue was deleted, and were deleted with it."""


def move_messages(
    url: str,
    source: str,
    target: str,
    say: Callable[[str], None],
    *,
    delete: str | None = None,
    enough: int | None = None,
    is_aside: bool = False,
    names: Mapping[str, str] | None = None,
) -> int:
    """Drain a queue, and report the progress every second. Return the number of moved messages.

    If the source must be deleted afterwards, ``delete`` is its queue type, and otherwise None. ``Drain`` describes the
    other arguments.
    """
    total, due = counts_of(url, source).messages, time.monotonic() + PROGRESS

    def progress(moved: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += PROGRESS
            say(f"{moved} of {max(moved, total)} moved to {target}")

    drain = Drain(url, source, target, progress, is_aside=is_aside, names=names)
    return drain.run(delete=delete is not None, is_classic=delete == CLASSIC, enough=enough)


class Drain(Emptier):
    """A consumer that moves the messages of ``source`` to ``target``, in order, until ``source`` is empty.

    After an interruption, the unacked messages are still in ``source``, but some of their copies may already be in
    ``target``. If a message is moved again, a header of the new copy records the redelivery.
    """

    def __init__(
        self,
        url: str,
        source: str,
        target: str,
        on_progress: Callable[[int], None] = lambda _: None,
        *,
        is_aside: bool = False,
        names: Mapping[str, str] | None = None,
        limit: int | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_aside`` is True for a target in which messages wait without expiring.

        ``names`` maps the old names of renamed queues to their new names, for the headers of the copies.
        """
        super().__init__(url, "runner drain", source, limit, on_progress, is_stopped)
        self._where = f"moving {source!r} to {target!r}"
        self._target, self._is_aside, self._names = target, is_aside, names or {}
        self._delete = self._is_classic = self._is_deleting = False
        self._enough: int | None = None
        self._consumer_deadline = 0.0

    def run(self, *, delete: bool = False, is_classic: bool = False, enough: int | None = None) -> int:
        """Move all messages. If ``delete`` is True, delete the empty source afterwards.

        ``is_classic`` is True if the source is a classic queue. For classic queues, RabbitMQ supports deletion on the
        condition that the queue is empty. ``enough`` is the number of messages after which the drain stops, even if the
        source still gets messages. The drain stops soon after it has moved ``enough`` messages, or has received twice
        this number plus HEADSTART. Raises the errors of ``Emptier.run``, MessagesDeleted, and RunnerError if a message
        cannot be copied or the source cannot be deleted.
        """
        self._delete, self._is_classic, self._enough = delete, is_classic, enough
        return super().run()

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        try:
            copy = moved_properties(method, properties, is_aside=self._is_aside, names=self._names)
        except ValueError as error:
            name = name_of(properties.message_id) or "without an id"
            # The drain must not skip the message, because later messages would overtake it.
            why = f"message {name}: {error}; export and remove the message, then run the command again"
            raise RunnerError(f"{self._where}: {why}") from None
        self._publish(method.delivery_tag, ("", "", self._target), body, copy)

    def _is_enough(self) -> bool:
        if self._enough is None:
            return super()._is_enough()
        return self.done >= self._enough or self._taken >= 2 * self._enough + HEADSTART

    def _on_end(self) -> None:
        if not self._delete:
            self._session.finish()
        elif not self._is_deleting:
            # The consumer is already cancelled, so a message that arrives now remains in the queue, and the check
            # before the deletion finds the message.
            self._is_deleting = True
            self._consumer_deadline = time.monotonic() + CONSUMER_TIMEOUT
            self._check(EMPTY_ANSWERS)

    def _check(self, answers: int) -> None:
        """Delete the source if ``answers`` consecutive counts are 0. Otherwise, continue to consume."""
        if self._session.is_finished:
            return

        def checked(frame: Any) -> None:
            if self._session.is_finished:
                return
            if frame.method.message_count:
                self._is_deleting = False
                self._consume()
            elif answers > 1:
                self._check(answers - 1)
            elif frame.method.consumer_count and time.monotonic() < self._consumer_deadline:
                self._session.loop.call_later(CONSUMER_INTERVAL, lambda: self._check(EMPTY_ANSWERS))
            elif frame.method.consumer_count:
                self._fail("another client consumes the source; stop that client, and try again")
            else:
                # RabbitMQ supports the condition ``if-empty`` only for classic queues.
                self._channel.queue_delete(self._queue, if_empty=self._is_classic, callback=self._deleted)

        self._channel.queue_declare(self._queue, passive=True, callback=checked)

    def _deleted(self, frame: Any) -> None:
        if lost := frame.method.message_count:
            why = f"{lost} messages arrived in {self._queue!r} just as the queue was deleted, and were deleted with it"
            self._session.fail(MessagesDeleted(f"{self._where}: {why}"))
        else:
            self._session.finish()

    def _closed(self, channel: Channel, error: Exception) -> None:
        close = close_of(error)
        if self._is_deleting and close.verdict is not CloseKind.PASSES:
            self._fail(close.reason)  # the source may no longer be empty, and another run may succeed
        else:
            super()._closed(channel, error)

    def _fail(self, why: str) -> None:
        self._session.fail(RunnerError(f"{self._where}: {why}"))
