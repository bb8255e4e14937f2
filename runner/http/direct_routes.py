"""Requests of a hot path, answered without a thread that waits for the broker.

A thread for each request costs more than all the rest: with 16 of them, a request meant 57 switches between threads.
So the loop itself asks the direct routes for all requests that have come, publishes their events together, and answers
each when its confirm has come. The application answers all others, and those whose event could not be published.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.http.log_writer import LogWriter
from runner.strict_json import decode_json

if TYPE_CHECKING:
    from runner import Context, Event
    from runner.http.request_checks import AllowedHosts
    from runner.http.waitress_adapter import StrictChannel

#: Longer bodies are for the threads, as the others wait while the loop reads one.
MAX_BYTES = 256
#: So many that no publish waits for room in the publisher's window, in which each thread may have an event too.
MAX_UNANSWERED = 512
#: A little over the 5 s after which ``publish`` gives up by itself: no request ever hangs.
CONFIRM_SECONDS = 6.0
#: In a request's environment: why its direct route could not publish its event, or None.
FAILURE = "runner.http.failure"
CONTENT_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


class DirectRequest(NamedTuple):
    """A request as a direct route gets it; names of headers are in upper case, with ``_`` for ``-``."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as strict JSON. Raises ValueError if it is none, or is not said to be JSON, as it is."""
        if self.headers.get("CONTENT_TYPE") not in CONTENT_TYPES or "CONTENT_ENCODING" in self.headers:
            raise ValueError("the body is not plain JSON")
        return decode_json(self.body)


class DirectReply(NamedTuple):
    """What a direct route answers once the broker has confirmed and routed ``event``."""

    event: Event
    #: Such as ``202 ACCEPTED``.
    status: str
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    #: What is logged then: a text with its arguments, and the order that it is about.
    line: tuple[str, tuple[object, ...], str]

    def record(self, log: logging.Logger, began: float) -> logging.LogRecord:
        """Return the log record of the line.

        ``began`` is when the event was published, in seconds since the epoch. With that time the line stands before the
        lines of services that handle the event, which they may get before the broker's confirm is here.
        """
        text, arguments, order = self.line
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, text, arguments, None, extra={"order": order})
        record.created = began
        return record

    def write_line(self, log: logging.Logger, began: float) -> None:
        """Log the line, in a view that has published the event itself."""
        if log.isEnabledFor(logging.INFO):
            log.handle(self.record(log, began))


#: Answers a request on the loop's thread, so it must not wait. None leaves the request to the application.
DirectRoute = Callable[[DirectRequest], DirectReply | None]


class _Unanswered(NamedTuple):
    channel: StrictChannel
    reply: DirectReply
    deadline: float


class DirectRoutes:
    """The routes that the loop's thread asks; it calls all of this."""

    def __init__(
        self,
        routes: Mapping[tuple[str, str], DirectRoute],
        context: Context,
        hosts: AllowedHosts,
        wake: Callable[[], None],
    ) -> None:
        """``routes`` are by method and path; ``wake`` wakes the loop, from any thread."""
        self._routes, self._context, self._hosts, self._wake = routes, context, hosts, wake
        self._unanswered: dict[int, _Unanswered] = {}
        self._count = 0
        #: What was read and is not published yet: together, as the thread that sends is woken once for all of them.
        self._read_now: list[int] = []
        self._done: deque[tuple[int, Future[None]]] = deque()
        self._date = (0, "")
        self._log = LogWriter(context.log)
        #: From then on a connection is closed behind its answer.
        self.is_stopping = False

    def start(self) -> None:
        """Begin to write what is logged."""
        self._log.start()

    def stop(self, timeout: float) -> None:
        """Write what is to be logged, for at most so many seconds."""
        self._log.stop(timeout)

    def take(self, channel: StrictChannel) -> bool:
        """Ask the route of a connection's first request; False if the request is for the application."""
        try:
            return self._take(channel)
        except Exception:
            self._context.log.exception("a request could not be read the direct way")
            return False

    def _take(self, channel: StrictChannel) -> bool:
        request = channel.asked()
        route = None if request is None else self._routes.get(request[:2])
        if request is None or route is None or len(request.body) > MAX_BYTES:
            return False
        # The threads may wait until the log is read again.
        if len(self._unanswered) >= MAX_UNANSWERED or self._log.is_full():
            return False
        if not self._hosts.is_own(request.headers.get("HOST", "")) or self._context.broker_problem():
            return False
        reply = route(request)
        if reply is None:
            return False
        self._count = number = self._count + 1
        self._unanswered[number] = _Unanswered(channel, reply, time.monotonic() + CONFIRM_SECONDS)
        self._read_now.append(number)
        return True

    def unanswered(self) -> int:
        """How many requests wait for their confirms or answers."""
        return len(self._unanswered)

    def work(self) -> None:
        """Publish what was read, and send the answers that are known, until there is neither."""
        while self._read_now or self._done:
            self._publish()
            self._answer()
        self._log.flush()

    def _publish(self) -> None:
        for number in self._read_now:
            one = self._unanswered[number]
            try:
                future = self._context.publish(one.reply.event)
            except Exception as error:  # noqa: BLE001 - whatever it is, the application reports it
                self._unanswered.pop(number).channel.fail(error)
            else:
                future.add_done_callback(partial(self._confirmed, number))
        self._read_now.clear()

    def _confirmed(self, number: int, future: Future[None]) -> None:
        # On the thread that speaks with the broker, which has no time for more.
        self._done.append((number, future))
        self._wake()

    def _answer(self) -> None:
        while self._done:
            number, future = self._done.popleft()
            one = self._unanswered.pop(number, None)
            if one is None:
                continue
            error = CancelledError() if future.cancelled() else future.exception()
            try:
                if error is None:
                    self._accept(one)
                else:
                    one.channel.fail(error)
            except Exception:
                self._context.log.exception("an answer could not be sent")
                one.channel.end()

    def give_up_late(self) -> None:
        """Leave those to the application whose confirm has not come in time, so that no request hangs."""
        now = time.monotonic()
        # The oldest comes first.
        for number in [number for number, one in self._unanswered.items() if one.deadline <= now]:
            self._unanswered.pop(number).channel.fail(TimeoutError())

    def give_up_all(self) -> None:
        """Leave all to the application, as there is no more time to wait for confirms."""
        for number in tuple(self._unanswered):
            self._unanswered.pop(number).channel.fail(CancelledError())

    def _accept(self, one: _Unanswered) -> None:
        reply, log = one.reply, self._context.log
        if log.isEnabledFor(logging.INFO):
            age = time.monotonic() - (one.deadline - CONFIRM_SECONDS)
            self._log.add(reply.record(log, time.time() - age))
        is_last = self.is_stopping or one.channel.close_behind_answer()
        connection = "Connection: close\r\n" if is_last else ""
        more = "".join([f"{name}: {value}\r\n" for name, value in reply.headers.items()])
        # As waitress sends the answers of the application.
        head = (
            f"HTTP/1.1 {reply.status}\r\n{connection}Content-Length: {len(reply.body)}\r\n"
            f"Content-Type: {reply.content_type}\r\nDate: {self._now()}\r\n{more}\r\n"
        )
        one.channel.reply(head.encode("latin-1") + reply.body, is_last=is_last)

    def _now(self) -> str:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]
