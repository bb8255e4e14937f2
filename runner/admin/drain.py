"""Move all messages of one queue into another: each is acknowledged only after the broker confirmed its copy."""

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

#: How many more than twice the messages that it held a source may get while they are moved.
HEADSTART = 1000
#: Seconds between two reports of the progress.
PROGRESS = 1.0


class MessagesDeleted(RunnerError):
    """Messages came to a queue in the moment of its deletion, and went with it."""


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
    """Drain a queue, and report the progress each second; return the number of moved messages.

    ``delete`` is the type of a source to delete then. For the rest see ``Drain``.
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
    """Moves what ``source`` holds into ``target``, in order, until it is empty.

    Interrupted at any point, the unacked messages are still in ``source``; some of their copies may be in ``target``
    already. When such a message is moved after all, its copy says in a header that it was delivered before.
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
        """``is_aside`` is for a target in which messages only wait: they do not expire there.

        ``names`` are the new names of queues that are renamed, by their old names: headers name the new queues.
        """
        super().__init__(url, "runner drain", source, limit, on_progress, is_stopped)
        self._where = f"moving {source!r} to {target!r}"
        self._target, self._is_aside, self._names = target, is_aside, names or {}
        self._delete = self._is_classic = self._is_deleting = False
        self._enough: int | None = None

    def run(self, *, delete: bool = False, is_classic: bool = False, enough: int | None = None) -> int:
        """Move all; with ``delete``, delete the empty source, which a classic queue only lets be done when it is.

        ``enough`` is for a source that still gets messages: it ends soon after that many are moved, or twice as many
        and 1,000 are received. Raises what ``Emptier.run`` raises, MessagesDeleted, and RunnerError for a message that
        cannot be copied and a source that cannot be deleted.
        """
        self._delete, self._is_classic, self._enough = delete, is_classic, enough
        return super().run()

    def _take(self, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        try:
            copy = moved_properties(method, properties, is_aside=self._is_aside, names=self._names)
        except ValueError as error:
            name = name_of(properties.message_id) or "without an id"
            # Without this error, later messages would overtake the message.
            why = f"message {name}: {error}; export and remove it, then run this again"
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
            # Without a consumer, a message that comes now stays in the source, where the deletion meets it.
            self._is_deleting = True
            self._check(EMPTY_ANSWERS)

    def _check(self, answers: int) -> None:
        """Delete the source if this number of answers in a row says that it is empty; else go on."""

        def checked(frame: Any) -> None:
            if self._session.is_finished:
                return
            if frame.method.message_count:
                self._is_deleting = False
                self._consume()
            elif answers > 1:
                self._check(answers - 1)
            elif frame.method.consumer_count:
                self._fail("another client consumes it; stop this client, and try again")
            else:
                # On condition that it is empty, which RabbitMQ does not know of quorum queues.
                self._channel.queue_delete(self._queue, if_empty=self._is_classic, callback=self._deleted)

        self._channel.queue_declare(self._queue, passive=True, callback=checked)

    def _deleted(self, frame: Any) -> None:
        if lost := frame.method.message_count:
            why = f"{lost} messages came to {self._queue!r} in the moment of its deletion and went with it"
            self._session.fail(MessagesDeleted(f"{self._where}: {why}"))
        else:
            self._session.finish()

    def _closed(self, channel: Channel, error: Exception) -> None:
        close = close_of(error)
        if self._is_deleting and close.verdict is not CloseKind.PASSES:
            self._fail(close.reason)  # such as a source that is no longer empty; the same command continues
        else:
            super()._closed(channel, error)

    def _fail(self, why: str) -> None:
        self._session.fail(RunnerError(f"{self._where}: {why}"))
