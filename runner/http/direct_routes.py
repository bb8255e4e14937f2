"""Direct routes, which let the event loop answer frequent requests itself instead of on a thread.

Threads are the largest cost of a request. With 16 threads, a request caused 57 thread switches. Therefore, the event
loop calls the direct routes for all requests that have arrived, and publishes the events of these requests together.
The event loop answers each request when the request's event is confirmed. The application answers all other requests,
including requests whose events could not be published.
"""

from __future__ import annotations

import logging
import re
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

#: The maximum length of a body in bytes. Threads handle longer bodies, because all connections wait while the event
#: loop is reading a body.
MAX_BYTES = 256
#: The maximum number of unanswered requests. The publisher's window has room for the events of this number of requests
#: and for one event from each thread, so publishing never waits.
MAX_UNANSWERED = 512
#: Seconds to wait for a confirm. This time is slightly longer than the 5 s after which ``publish`` fails, so no request
#: hangs.
CONFIRM_SECONDS = 6.0
#: The key in a request's environment for the publishing error of a direct route. If there is no error, the value is
#: None.
FAILURE = "runner.http.failure"
#: A text without line breaks that is allowed in the head of a response (RFC 9110, section 5.5).
_FIELD_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
CONTENT_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


class DirectRequest(NamedTuple):
    """A request for a direct route. Header names are in upper case, with ``_`` instead of ``-``."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Decode the body as strict JSON.

        Raises ValueError if the body is not JSON, or if the headers do not declare unencoded JSON.
        """
        if self.headers.get("CONTENT_TYPE") not in CONTENT_TYPES or "CONTENT_ENCODING" in self.headers:
            raise ValueError("the body must be JSON without a charset or an encoding")
        return decode_json(self.body)


class DirectReply(NamedTuple):
    """An event, and the response that the client gets after the broker has routed and confirmed the event."""

    event: Event
    #: The status code and reason phrase, such as ``202 ACCEPTED``.
    status: str
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    #: The log line for the response: a format string, the arguments, and the id of the order.
    line: tuple[str, tuple[object, ...], str]

    def check(self) -> None:
        """Raise ValueError if a line of the response head is invalid. Call this method before publishing the event."""
        texts = (self.status, self.content_type, *self.headers, *self.headers.values())
        # One match checks all texts together, because this check runs for every request on a direct route.
        if not _FIELD_TEXT.fullmatch("".join(texts)):
            wrong = next(one for one in texts if not _FIELD_TEXT.fullmatch(one))
            raise ValueError(f"direct route: not a line of a response head, {wrong!r}; allowed: one line of Latin-1")

    def record(self, log: logging.Logger, began: float) -> logging.LogRecord:
        """Return the log record for ``line``.

        ``began`` is the time at which the event was published, in seconds since the epoch. The record gets this time,
        so that the line is sorted before the log lines of services that handle the event. Such services may
        get the event before this process gets the confirm.
        """
        text, arguments, order = self.line
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, text, arguments, None, extra={"order": order})
        record.created = began
        return record

    def write_line(self, log: logging.Logger, began: float) -> None:
        """Log ``line``. Call this method from a view that has published the event itself."""
        if log.isEnabledFor(logging.INFO):
            log.handle(self.record(log, began))


#: A function that answers a request. The function must not wait, because it runs on the event loop's thread. If the
#: function returns None, the application answers the request.
DirectRoute = Callable[[DirectRequest], DirectReply | None]


class _Unanswered(NamedTuple):
    channel: StrictChannel
    reply: DirectReply
    deadline: float


class DirectRoutes:
    """The direct routes of a server. Only the event loop's thread may call these methods."""

    def __init__(
        self,
        routes: Mapping[tuple[str, str], DirectRoute],
        context: Context,
        hosts: AllowedHosts,
        wake: Callable[[], None],
    ) -> None:
        """``routes`` maps each method and path to a function. ``wake`` wakes the event loop from any thread."""
        self._routes, self._context, self._hosts, self._wake = routes, context, hosts, wake
        self._unanswered: dict[int, _Unanswered] = {}
        self._count = 0
        #: The numbers of the requests whose events are not published yet. The events are published together, so that
        #: the I/O thread is woken only once.
        self._read_now: list[int] = []
        self._done: deque[tuple[int, Future[None]]] = deque()
        self._date = (0, "")
        self._log = LogWriter(context.log)
        #: True if the connection is closed after each response.
        self.is_stopping = False

    def start(self) -> None:
        """Start the thread that writes log lines."""
        self._log.start()

    def stop(self, timeout: float) -> None:
        """Write the remaining log lines, and wait at most ``timeout`` seconds."""
        self._log.stop(timeout)

    def take(self, channel: StrictChannel) -> bool:
        """Call the direct route of a connection's first request. Return False if the application has to answer."""
        try:
            return self._take(channel)
        except Exception:
            self._context.log.exception("a direct route failed; the application answers the request")
            return False

    def _take(self, channel: StrictChannel) -> bool:
        request = channel.asked(MAX_BYTES)
        route = None if request is None else self._routes.get(request[:2])
        if request is None or route is None:
            return False
        # While too many log records are waiting, threads answer the requests, because threads may block.
        if len(self._unanswered) >= MAX_UNANSWERED or self._log.is_full():
            return False
        if not self._hosts.is_own(request.headers.get("HOST", "")) or self._context.broker_problem():
            return False
        reply = route(request)
        if reply is None:
            return False
        reply.check()
        self._count = number = self._count + 1
        self._unanswered[number] = _Unanswered(channel, reply, time.monotonic() + CONFIRM_SECONDS)
        self._read_now.append(number)
        return True

    def unanswered(self) -> int:
        """Return the number of requests that are waiting for a confirm or a response."""
        return len(self._unanswered)

    def work(self) -> None:
        """Publish the events of all new requests and send all available responses, until none remain."""
        while self._read_now or self._done:
            self._publish()
            self._answer()
        self._log.flush()

    def _publish(self) -> None:
        for number in self._read_now:
            one = self._unanswered[number]
            try:
                future = self._context.publish(one.reply.event)
            except Exception as error:  # noqa: BLE001 - the application reports any error
                self._unanswered.pop(number).channel.fail(error)
            else:
                future.add_done_callback(partial(self._confirmed, number))
        self._read_now.clear()

    def _confirmed(self, number: int, future: Future[None]) -> None:
        # This method is called on the I/O thread, which must not be delayed.
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
                self._context.log.exception("a response could not be sent")
                one.channel.end()

    def give_up_late(self) -> None:
        """Pass requests with late confirms to the application, so that no request hangs."""
        now = time.monotonic()

        for number in [number for number, one in self._unanswered.items() if one.deadline <= now]:
            self._unanswered.pop(number).channel.fail(TimeoutError())

    def give_up_all(self) -> None:
        """Pass all unanswered requests to the application, because no time is left to wait for confirms."""
        for number in tuple(self._unanswered):
            self._unanswered.pop(number).channel.fail(CancelledError())

    def _accept(self, one: _Unanswered) -> None:
        reply, log = one.reply, self._context.log
        if log.isEnabledFor(logging.INFO):
            age = time.monotonic() - (one.deadline - CONFIRM_SECONDS)
            self._log.add(reply.record(log, time.time() - age))
        is_last = self.is_stopping or one.channel.close_behind_answer()
        connection = "Connection: close\r\n" if is_last else ""
        # The format is the same as in the application's responses, which waitress sends.
        head = (
            f"HTTP/1.1 {reply.status}\r\n{connection}Content-Length: {len(reply.body)}\r\n"
            f"Content-Type: {reply.content_type}\r\nDate: {self._now()}\r\n"
        )
        for name, value in reply.headers.items():
            head += f"{name}: {value}\r\n"
        head += "\r\n"
        one.channel.reply(head.encode("latin-1") + reply.body, is_last=is_last)

    def _now(self) -> str:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]
