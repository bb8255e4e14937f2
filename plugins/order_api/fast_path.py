"""Plain orders, taken without a thread that waits for the broker.

A thread for each request costs more than all the rest: with 16 of them, a request meant 57 switches between threads.
So the loop itself reads all orders that have come, publishes them together, and answers each when its confirm has come.
It only takes orders that are plain and fine; the Flask application answers everything else, also what is fine but may
take long to read, and says why a publish failed.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from waitress.utilities import build_http_date

from runner import Context, Event
from runner.amqp.publisher import WINDOW
from runner.strict_json import decode_json

from . import MAX_THREADS
from .api import CONFIRM_SECONDS, IDEMPOTENCY_KEY, Hosts, accepted, accepted_record
from .log_writer import LogWriter
from .order import Order, created_event, order_id_for

if TYPE_CHECKING:
    from . import Options
    from .channel import StrictChannel, StrictParser

#: Longer ones are for the threads, as to read them would hold up the others: a long domain costs email_validator 1 ms.
MAX_PLAIN_BYTES = 256
#: So many that no publish waits for room in the publisher's window, where each thread may have an order too.
MAX_IN_HAND = 512
if MAX_IN_HAND + MAX_THREADS >= WINDOW:
    raise AssertionError(f"MAX_IN_HAND: {MAX_IN_HAND} is too much; allowed: fewer than {WINDOW - MAX_THREADS}")
CONNECTION_OPTIONS = frozenset({"keep-alive", "close"})
#: In a body, what email_validator may take milliseconds for: an address that is not ASCII, however it is written.
DEAR = re.compile(rb"[^\x00-\x7f]|\\u|xn--", re.IGNORECASE)
CONTENT_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


class _Taken(NamedTuple):
    channel: StrictChannel
    request: StrictParser
    order: Order
    event: Event
    deadline: float


class FastPath:
    """Takes orders on the loop's thread, which calls all of this."""

    def __init__(self, options: Options, context: Context) -> None:
        self._context = context
        self._is_own_host = Hosts(options).is_own
        self._in_hand: dict[int, _Taken] = {}
        self._count = 0
        #: What was read and is not published yet: together, as the thread that sends is woken once for all of them.
        self._read_now: list[int] = []
        self._done: deque[tuple[int, Future[None]]] = deque()
        self._date = (0, "")
        self._log = LogWriter(context.log)
        #: From then on a connection is closed behind its answer.
        self.is_stopping = False
        #: Called on any thread when an answer is known.
        self.wake: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to write what is logged."""
        self._log.start()

    def stop(self, timeout: float) -> None:
        """Write what is to be logged, for at most so many seconds."""
        self._log.stop(timeout)

    def take(self, channel: StrictChannel, request: StrictParser) -> bool:
        """Read the order in ``request``; False where it is for the Flask application."""
        try:
            return self._take(channel, request)
        except Exception:
            self._context.log.exception("an order could not be read the short way")
            return False

    def _take(self, channel: StrictChannel, request: StrictParser) -> bool:
        # The threads may wait until there is somebody who reads the log.
        if len(self._in_hand) >= MAX_IN_HAND or self._log.is_full():
            return False
        order = self._read(request)
        if order is None or self._context.broker_problem():
            return False
        order_id = order_id_for(request.headers.get("IDEMPOTENCY_KEY"), order)
        event = created_event(order, order_id)
        self._count = number = self._count + 1
        self._in_hand[number] = _Taken(channel, request, order, event, time.monotonic() + CONFIRM_SECONDS)
        self._read_now.append(number)
        return True

    def in_hand(self) -> int:
        """How many orders wait for their confirms or answers."""
        return len(self._in_hand)

    def work(self) -> None:
        """Publish what was read, and send the answers that are known, until there is neither."""
        while self._read_now or self._done:
            self._publish()
            self._answer()
        self._log.flush()

    def _publish(self) -> None:
        for number in self._read_now:
            taken = self._in_hand[number]
            try:
                future = self._context.publish(taken.event)
            except Exception as error:  # noqa: BLE001 - whatever it is, the application says it
                self._refuse(self._in_hand.pop(number), error)
            else:
                future.add_done_callback(partial(self._confirmed, number))
        self._read_now.clear()

    def _answer(self) -> None:
        while self._done:
            number, future = self._done.popleft()
            taken = self._in_hand.pop(number, None)
            if taken is None:
                continue
            error = CancelledError() if future.cancelled() else future.exception()
            try:
                if error is None:
                    self._accept(taken)
                else:
                    self._refuse(taken, error)
            except Exception:
                self._context.log.exception("an order's answer could not be sent")
                taken.channel.end()

    def give_up_late(self) -> None:
        """Refuse those whose confirm has not come in time, so that no request hangs."""
        now = time.monotonic()
        # The oldest comes first.
        late = [number for number, taken in self._in_hand.items() if taken.deadline <= now]
        for number in late:
            self._refuse(self._in_hand.pop(number), TimeoutError())

    def give_up_all(self) -> None:
        """Refuse all that are in hand, as there is no more time to wait for confirms."""
        for number in tuple(self._in_hand):
            self._refuse(self._in_hand.pop(number), CancelledError())

    def _read(self, request: StrictParser) -> Order | None:
        """The order, where nothing about the request is unusual."""
        if request.error is not None or request.path != "/orders" or request.command != "POST":
            return None
        headers = request.headers
        key = headers.get("IDEMPOTENCY_KEY")
        if (
            request.version != "1.1"
            or "#" in request.request_uri
            or headers.get("CONNECTION", "keep-alive").lower() not in CONNECTION_OPTIONS
            or headers.get("CONTENT_TYPE") not in CONTENT_TYPES
            or "CONTENT_ENCODING" in headers
            or not 0 < request.content_length <= MAX_PLAIN_BYTES
            or not (key is None or IDEMPOTENCY_KEY.fullmatch(key))
            or not self._is_own_host(headers.get("HOST", ""))
        ):
            return None
        body = request.body_rcv.getbuf().get()
        if DEAR.search(body):
            return None
        try:
            value = decode_json(body)
            return Order.model_validate(value) if isinstance(value, dict) else None
        except (ValueError, ValidationError):
            return None

    def _confirmed(self, number: int, future: Future[None]) -> None:
        # On the thread that speaks with the broker, which has no time for more.
        self._done.append((number, future))
        self.wake()

    def _accept(self, taken: _Taken) -> None:
        order_id, event_id = taken.event.body["order_id"], str(taken.event.id)
        if self._context.log.isEnabledFor(logging.INFO):
            age = time.monotonic() - (taken.deadline - CONFIRM_SECONDS)
            self._log.add(accepted_record(self._context.log, taken.order, order_id, time.time() - age))
        body = accepted(order_id, event_id)
        if self.is_stopping:
            taken.request.connection_close = True
        connection = "Connection: close\r\n" if taken.request.connection_close else ""
        answer = (
            f"HTTP/1.1 202 ACCEPTED\r\n{connection}Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
            f"Date: {self._now()}\r\nLocation: /orders/{order_id}\r\n\r\n{body}"
        )
        taken.channel.reply(answer.encode())

    def _refuse(self, taken: _Taken, error: BaseException) -> None:
        taken.request.outcome = error
        taken.channel.server.give(taken.channel)

    def _now(self) -> str:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, build_http_date(second))
        return self._date[1]
