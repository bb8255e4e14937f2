"""What queues hold at this moment, asked of the broker that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from runner.amqp.drain import Counts, reason
from runner.amqp.session import Session
from runner.errors import BrokerAway, RunnerError

#: Seconds for which a queue may say nothing.
STALLED = 20.0
NOT_FOUND = 404


def look(urls: Sequence[str], queues: Sequence[str]) -> tuple[str, dict[str, Counts | None]]:
    """Find the broker that answers, and what each of some queues holds; None for one that is not there.

    Raises BrokerAway where none answers, and RunnerError where this user may not know.
    """
    problem = BrokerAway("broker.url: no address")
    for url in urls:
        try:
            return url, _Look(url, queues).run()
        except BrokerAway as error:
            problem = error
    raise problem


def holds_any(url: str, queue: str) -> bool:
    """Try to take one message, and put it back: a quorum queue answers this only once it knows.

    Raises BrokerAway, and RunnerError where it does not answer.
    """
    found: list[bool] = []

    def ask(channel: Channel) -> None:
        def answered(is_there: bool) -> None:
            found.append(is_there)
            session.finish()

        channel.add_on_close_callback(lambda _, error: session.fail(RunnerError(f"queue {queue!r}: {reason(error)}")))
        channel.add_callback(lambda _: answered(False), [pika.spec.Basic.GetEmpty])
        channel.basic_get(queue, callback=lambda *_: answered(True))

    session = Session(url, "runner dlq", ask)
    session.run(STALLED)
    return found[0]


class _Look:
    """Asks for one queue after the other, over a new channel after each that is not there."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._left = list(queues)
        self._found: dict[str, Counts | None] = {}
        self._session = Session(url, "runner dlq", self._opened)

    def run(self) -> dict[str, Counts | None]:
        self._session.run(STALLED)
        return self._found

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._closed)
        self._ask(channel)

    def _ask(self, channel: Channel) -> None:
        if self._left:
            channel.queue_declare(self._left[0], passive=True, callback=lambda frame: self._counted(channel, frame))
        else:
            self._session.finish()

    def _counted(self, channel: Channel, frame: Any) -> None:
        self._found[self._left.pop(0)] = Counts(frame.method.message_count, frame.method.consumer_count)
        self._ask(channel)

    def _closed(self, _: Channel, error: Exception) -> None:
        if self._session.is_finished or not isinstance(error, ChannelClosedByBroker):
            return
        name = self._left.pop(0)
        if error.reply_code != NOT_FOUND:
            self._session.fail(RunnerError(f"queue {name!r}: {reason(error)}"))
            return
        self._found[name] = None
        self._session.open_channel()
