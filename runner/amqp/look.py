"""What queues hold at this moment, asked of the broker that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from runner.amqp.close import Verdict, close_of
from runner.amqp.drain import Counts
from runner.amqp.session import Session
from runner.errors import BrokerAway, BrokerRefused, RunnerError

#: Seconds for which a queue may say nothing.
STALLED = 20.0


def look(urls: Sequence[str], queues: Sequence[str]) -> tuple[str, dict[str, Counts | None]]:
    """Find the broker that answers, and what each of some queues holds; None for one that is not there.

    Raises BrokerAway if no broker or queue answers for now, and BrokerRefused if this user may not see a queue.
    """
    problem: RunnerError = BrokerAway("broker.url: no address")
    for url in urls:
        one = _Look(url, queues)
        try:
            return url, one.run()
        except (BrokerAway, BrokerRefused) as error:
            if one.is_answered:
                raise
            problem = problem if isinstance(problem, BrokerRefused) else error
    raise problem


def holds_any(url: str, queue: str) -> bool:
    """Try to take one message, and put it back: a quorum queue answers this only once it knows.

    Raises BrokerAway, BrokerRefused, and RunnerError if the queue does not exist.
    """
    found: list[bool] = []

    def ask(channel: Channel) -> None:
        def answered(is_there: bool) -> None:
            found.append(is_there)
            session.finish()

        channel.add_on_close_callback(lambda _, error: session.fail(close_of(error).error(f"queue {queue!r}")))
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
        #: True if a queue could not be asked on an open connection, so that another node would not help.
        self.is_answered = False

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
        name, close = self._left.pop(0), close_of(error)
        if close.verdict is not Verdict.MISSING:
            self.is_answered = close.verdict is Verdict.PERMANENT
            self._session.fail(close.error(f"queue {name!r}"))
            return
        self._found[name] = None
        self._session.open_channel()
