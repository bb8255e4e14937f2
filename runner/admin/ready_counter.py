"""A counter of the ready messages in queues, which keeps one connection open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from pika.channel import Channel

from runner.amqp.io_thread import IoThread
from runner.amqp.link import Link
from runner.errors import BrokerRefused, BrokerUnreachable

#: Seconds within which the broker must answer.
TIMEOUT = 5.0


class ReadyCounter:
    """A counter that connects at the first request. Any thread may send a request, but requests run one at a time."""

    def __init__(self, urls: Sequence[str], name: str) -> None:
        self._io = IoThread(on_crash=lambda: self._fail(BrokerUnreachable("the AMQP thread has crashed")))
        self._channel: Channel | None = None
        self._link = Link(self._io, urls, name, self._opened, self._lost)
        self._asked: Future[int] | None = None
        self._lock = threading.Lock()
        self._is_started = False
        self._is_first = True
        self._waiting: Callable[[], None] | None = None

    def ready(self, queues: Sequence[str]) -> int:
        """Return the total number of ready messages in the queues.

        Raises BrokerUnreachable if the broker does not answer, and BrokerRefused if the user lacks the permissions for
        a queue.
        """
        with self._lock:
            if not self._is_started:
                self._is_started = True
                self._io.start()
                self._link.start()
            future: Future[int] = Future()
            self._io.call(partial(self._ask, future, queues))
            try:
                return future.result(TIMEOUT)
            except TimeoutError:
                raise BrokerUnreachable(f"no answer within {TIMEOUT:g} s") from None

    def _ask(self, future: Future[int], queues: Sequence[str]) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            if self._is_first:
                self._waiting = partial(self._ask, future, queues)  # the first connection is being opened
            else:
                future.set_exception(self._link.error())
            return
        self._asked, counts = future, list[int]()
        for queue in queues:
            # A passive declaration of a missing queue closes the channel, and the link opens a new channel.
            channel.queue_declare(queue, passive=True, callback=self._counter(future, counts, len(queues)))

    def _counter(self, future: Future[int], counts: list[int], asked: int) -> Callable[[Any], None]:
        def count(frame: Any) -> None:
            counts.append(frame.method.message_count)
            if len(counts) == asked and not future.done():
                future.set_result(sum(counts))

        return count

    def _opened(self, channel: Channel) -> None:
        self._channel, self._is_first = channel, False
        if self._waiting is not None:
            self._waiting()
            self._waiting = None

    def _lost(self, *_: object) -> None:
        self._channel = None
        self._fail(self._link.error())

    def _fail(self, error: BrokerUnreachable | BrokerRefused) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)
