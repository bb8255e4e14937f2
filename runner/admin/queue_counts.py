"""The current message and consumer counts of queues, from the queues themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from runner.amqp.reply_code import CloseKind, close_of
from runner.amqp.session import Session
from runner.config.version import Version, parsed
from runner.errors import BrokerRefused, BrokerUnreachable, RunnerError

#: Seconds without an answer after which a request fails.
STALLED = 20.0
#: A callback that gets the counts of each queue, and the reason for each queue that currently cannot answer.
OnCounts = Callable[[dict[str, "QueueCounts | None"], dict[str, str]], None]


@dataclass(frozen=True)
class QueueCounts:
    """The current counts of a queue, which come from the queue itself and not from statistics."""

    #: Ready messages.
    messages: int
    consumers: int


def counts_of(url: str, queue: str) -> QueueCounts:
    """Return the counts of a queue.

    Raises BrokerRefused, BrokerUnreachable, and RunnerError if the queue does not exist.
    """
    counts = look([url], [queue])[1][queue]
    if counts is None:
        raise RunnerError(f"queue {queue!r} does not exist")
    return counts


def look(
    urls: Sequence[str], queues: Sequence[str], unknown: dict[str, str] | None = None, timeout: float = STALLED
) -> tuple[str, dict[str, QueueCounts | None]]:
    """Return the URL of the broker that answers, and the counts of the queues, with None for each missing queue.

    ``timeout`` is the time in seconds within which the broker at one address must report all counts. ``unknown``
    receives the reason for each queue that currently cannot answer, for example while its node is down. The result
    omits the queues in ``unknown``.

    Raises BrokerUnreachable if no broker or no queue answers, or if ``unknown`` is None and any queue does not answer.
    Raises BrokerRefused if the user lacks the permissions for a queue.
    """
    problem: RunnerError = BrokerUnreachable("broker.url: no address")
    for url in urls:
        one = _Look(url, queues, may_be_unknown=unknown is not None)
        try:
            found = one.run(timeout)
            if one.unknown and not found:
                raise BrokerUnreachable(next(iter(one.unknown.values())))
            if unknown is not None:
                unknown |= one.unknown
            return url, found
        except (BrokerUnreachable, BrokerRefused) as error:
            if one.is_answered:
                raise
            problem = problem if isinstance(problem, BrokerRefused) else error
    raise problem


def watch(
    url: str,
    queues: Sequence[str],
    interval: float,
    on_counts: OnCounts,
    choose: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Read the counts of queues every ``interval`` seconds over one connection, until an error occurs.

    ``choose`` returns the queues of each round after the first, which are all ``queues`` by default.
    ``on_counts`` gets the counts (None for a missing queue) and, for each queue that cannot answer at the moment, the
    reason. Raises the errors of ``on_counts``, BrokerUnreachable if the connection is lost or no answer arrives, and
    BrokerRefused.
    """
    _Watch(url, queues, interval, on_counts, choose or (lambda: queues)).run(None)


def version_at(url: str) -> Version:
    """Return the version that a broker reports when a connection to ``url`` opens.

    Raises BrokerUnreachable and BrokerRefused.
    """
    found: list[str] = []

    def opened(channel: Channel) -> None:
        found.append(str((channel.connection.server_properties or {}).get("version", "")))
        session.finish()

    session = Session(url, "runner", opened)
    session.run(STALLED)
    return parsed(found[0])


def verified_counts(url: str, queue: str, patience: float) -> QueueCounts:
    """Return reliable counts of a quorum queue.

    A queue that is too busy to answer reports 0 messages, like an empty queue. ``patience`` is the time in seconds to
    wait for the queue's count. Raises BrokerRefused, BrokerUnreachable if the count remains unknown, and RunnerError if
    the queue does not exist.
    """
    is_any = has_messages(url, queue)
    deadline = time.monotonic() + patience
    while True:
        # The counts are read again even if the queue is empty, because a queue that is too busy also reports no
        # consumers.
        counts = look([url], [queue])[1][queue] or QueueCounts(0, 0)
        if counts.messages or not is_any:
            return counts
        if time.monotonic() >= deadline:
            raise BrokerUnreachable(
                f"queue {queue!r}: the queue has messages but reports 0, because it is too busy to answer"
            )
        time.sleep(0.5)


def has_messages(url: str, queue: str) -> bool:
    """Return True if a queue has a ready message. The message is fetched and requeued.

    Raises BrokerUnreachable, BrokerRefused, and RunnerError if the queue does not exist.
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
    """A session that reads the counts of queues one by one, and opens a new channel after each missing queue."""

    def __init__(self, url: str, queues: Sequence[str], *, may_be_unknown: bool) -> None:
        self._left = list(queues)
        self._may_be_unknown = may_be_unknown
        #: The reason for each queue that currently cannot answer.
        self.unknown: dict[str, str] = {}
        self._found: dict[str, QueueCounts | None] = {}
        self._session = Session(url, "runner dlq", self._opened)
        #: True if the broker answered with a permanent refusal, so that another node would not help.
        self.is_answered = False

    def run(self, timeout: float | None) -> dict[str, QueueCounts | None]:
        self._session.run(timeout)
        return self._found

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._closed)
        self._ask(channel)

    def _ask(self, channel: Channel) -> None:
        if self._left:
            channel.queue_declare(self._left[0], passive=True, callback=lambda frame: self._counted(channel, frame))
        else:
            self._complete(channel)

    def _complete(self, _: Channel) -> None:
        self._session.finish()

    def _counted(self, channel: Channel, frame: Any) -> None:
        self._found[self._left.pop(0)] = QueueCounts(frame.method.message_count, frame.method.consumer_count)
        self._ask(channel)

    def _closed(self, _: Channel, error: Exception) -> None:
        if self._session.is_finished or not isinstance(error, ChannelClosedByBroker):
            return
        close = close_of(error)
        if not self._left:
            self._session.fail(close.error("queues"))
            return
        name = self._left.pop(0)
        if close.verdict is CloseKind.PASSES and self._may_be_unknown:
            self.unknown[name] = str(close.error(f"queue {name!r}"))
        elif close.verdict is CloseKind.MISSING:
            self._found[name] = None
        else:
            self.is_answered = close.verdict is CloseKind.PERMANENT
            self._session.fail(close.error(f"queue {name!r}"))
            return
        self._session.open_channel()


class _Watch(_Look):
    """A session that reads the counts of all queues repeatedly."""

    def __init__(
        self,
        url: str,
        queues: Sequence[str],
        interval: float,
        on_counts: OnCounts,
        choose: Callable[[], Sequence[str]],
    ) -> None:
        super().__init__(url, queues, may_be_unknown=True)
        self._interval, self._on_counts, self._choose = interval, on_counts, choose
        self._heard = time.monotonic()

    def _opened(self, channel: Channel) -> None:
        if not self._found and not self.unknown:
            self._check()
        super()._opened(channel)

    def _check(self) -> None:
        if time.monotonic() - self._heard > STALLED + self._interval:
            self._session.fail(BrokerUnreachable(f"no answer within {STALLED:g} s"))
        elif not self._session.is_finished:
            self._session.loop.call_later(self._interval, self._check)

    def _complete(self, channel: Channel) -> None:
        self._heard = time.monotonic()
        try:
            self._on_counts(dict(self._found), dict(self.unknown))
        except Exception as error:  # noqa: BLE001 - pika would treat it as a lost connection
            self._session.fail(error)
            return
        self._session.loop.call_later(self._interval, lambda: self._begin(channel))

    def _begin(self, channel: Channel) -> None:
        if self._session.is_finished:
            return
        self._left = list(self._choose())
        self._found.clear()
        self.unknown.clear()
        self._ask(channel)
