"""Plain orders, taken without a thread that waits for the broker.

A thread for each request costs more than all the rest: with 16 of them, a request meant 57 switches between threads.
So the loop itself reads all orders that have come, publishes them together, and answers each when its confirm has come.
It only takes what is fine in every way; the Flask application answers everything else, and says why a publish failed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from waitress.utilities import build_http_date

from runner import Context, Event
from runner.strict_json import decode_json

from .api import CONFIRM_SECONDS, IDEMPOTENCY_KEY, Hosts, accepted, log_accepted
from .order import Order, created_event, order_id_for

if TYPE_CHECKING:
    from . import Options
    from .channel import StrictChannel, StrictParser

#: Longer ones are for the threads, as reading them would hold up the others; an order that is fine has no more.
MAX_PLAIN_BYTES = 2048
#: Fewer than the publisher's window, in which a publish would wait for room.
MAX_IN_HAND = 512
CONTENT_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


class _Taken(NamedTuple):
    channel: StrictChannel
    request: StrictParser
    order: Order
    event: Event
    deadline: float


class FastPath:
    """Takes orders on the loop's thread."""

    def __init__(self, options: Options, context: Context) -> None:
        self._context = context
        self._is_own_host = Hosts(options).is_own
        self._in_hand: dict[int, _Taken] = {}
        self._count = 0
        #: What was read and is not published yet: together, as the thread that sends is woken once for all of them.
        self._read_now: list[int] = []
        self._done: deque[tuple[int, Future[None]]] = deque()
        self._date = (0, "")
        #: Called on any thread when an answer is known.
        self.wake: Callable[[], None] = lambda: None

    def take(self, channel: StrictChannel, request: StrictParser) -> bool:
        """Read the order in ``request``; False where it is for the Flask application."""
        order = self._read(request)
        if order is None or len(self._in_hand) >= MAX_IN_HAND or self._context.broker_problem():
            return False
        order_id = order_id_for(request.headers.get("IDEMPOTENCY_KEY"), order)
        event = created_event(order, order_id)
        self._count = number = self._count + 1
        self._in_hand[number] = _Taken(channel, request, order, event, time.monotonic() + CONFIRM_SECONDS)
        self._read_now.append(number)
        return True

    def publish(self) -> None:
        """Publish what was read in this turn."""
        for number in self._read_now:
            taken = self._in_hand[number]
            try:
                future = self._context.publish(taken.event)
            except Exception as error:  # noqa: BLE001 - whatever it is, the application says it
                self._refuse(self._in_hand.pop(number), error)
            else:
                future.add_done_callback(partial(self._confirmed, number))
        self._read_now.clear()

    def has_answers(self) -> bool:
        """Whether there are some to be sent."""
        return bool(self._done)

    def answer(self) -> None:
        """Send the answers that are known by now."""
        while self._done:
            number, future = self._done.popleft()
            taken = self._in_hand.pop(number, None)
            if taken is None:
                continue
            error = CancelledError() if future.cancelled() else future.exception()
            if error is None:
                self._accept(taken)
            else:
                self._refuse(taken, error)

    def give_up_late(self) -> None:
        """Refuse those whose confirm has not come in time, so that no request hangs."""
        now = time.monotonic()
        # The oldest comes first.
        late = [number for number, taken in self._in_hand.items() if taken.deadline <= now]
        for number in late:
            self._refuse(self._in_hand.pop(number), TimeoutError())

    def _read(self, request: StrictParser) -> Order | None:
        """The order, where nothing about the request is unusual."""
        if request.error is not None or request.path != "/orders" or request.command != "POST":
            return None
        headers = request.headers
        key = headers.get("IDEMPOTENCY_KEY")
        if (
            request.version != "1.1"
            or headers.get("CONNECTION", "keep-alive").lower() != "keep-alive"
            or headers.get("CONTENT_TYPE") not in CONTENT_TYPES
            or "CONTENT_ENCODING" in headers
            or not 0 < request.content_length <= MAX_PLAIN_BYTES
            or not (key is None or IDEMPOTENCY_KEY.fullmatch(key))
            or not self._is_own_host(headers.get("HOST", ""))
        ):
            return None
        try:
            value = decode_json(request.body_rcv.getbuf().get())
            return Order.model_validate(value) if isinstance(value, dict) else None
        except (ValueError, ValidationError):
            return None

    def _confirmed(self, number: int, future: Future[None]) -> None:
        # On the thread that speaks with the broker, which has no time for more.
        self._done.append((number, future))
        self.wake()

    def _accept(self, taken: _Taken) -> None:
        order_id, event_id = taken.event.body["order_id"], str(taken.event.id)
        log_accepted(self._context.log, taken.order, order_id)
        body = accepted(order_id, event_id)
        answer = (
            f"HTTP/1.1 202 ACCEPTED\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n"
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
