"""A thread-safe publisher. Events are pipelined, mandatory, persistent and confirmed."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from pika.channel import Channel

from runner.amqp.confirms_and_returns import ConfirmWindow, ReturnKey, WindowPlaces
from runner.amqp.dead_leader import DeadLeaderRefusals
from runner.amqp.io_thread import IoThread
from runner.amqp.link import Link
from runner.amqp.properties import Encoded, encode
from runner.amqp.reply_code import Close, CloseKind
from runner.errors import (
    BrokerBlocked,
    BrokerError,
    BrokerUnreachable,
    ConfirmTimeout,
    EventTooLarge,
    PublishRefused,
)
from runner.messages import Event

log = logging.getLogger("runner.amqp")

#: The maximum number of unconfirmed events.
WINDOW = 1000
#: A callback that gets the outcome of an event once. The outcome is None if the broker has confirmed the event,
#: otherwise the error.
Done = Callable[[Encoded, BrokerError | None], object]
#: The time in seconds after which an unconfirmed event fails. pika itself has no such limit.
CONFIRM_TIMEOUT = 5.0


class _Confirmation(Future[None]):
    def cancel(self) -> bool:
        """Return False, because the broker may already have received the event."""
        return False


class _Outgoing(NamedTuple):
    encoded: Encoded
    done: Done
    deadline: float
    timeout: float
    #: True if the event occupies a place in the window.
    has_place: bool


class Publisher:
    """A connection used only for publishing. A broker that blocks publishers stops reading from the whole connection.

    All callbacks run on the I/O thread:

    - ``on_state`` gets None when events can be published, and the reason when they can no longer be published.
    - ``on_missing`` gets the reason when an exchange does not exist.
    - ``on_refused`` gets the reason when the broker permanently refuses all channels.
    """

    def __init__(
        self,
        io: IoThread,
        urls: Sequence[str],
        name: str,
        on_state: Callable[[str | None], None],
        on_missing: Callable[[str], None],
        window: WindowPlaces | None = None,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self._io = io
        self._on_state, self._on_missing = on_state, on_missing
        self._on_refused = on_refused or on_missing
        self._room = window or WindowPlaces(WINDOW)
        io.at_round_end(self._room.wake)
        self._waiting: deque[_Outgoing] = deque()
        self._scheduled = False
        self._sweeping = False
        self._is_closed = False
        self._channel: Channel | None = None
        # A single node is always the leader, so its refusals are not watched.
        self._refusals = DeadLeaderRefusals() if len(urls) > 1 else None
        self._is_stale = False
        self._window: ConfirmWindow[_Outgoing] = ConfirmWindow(self._finish)
        if (refusals := self._refusals) is not None:
            self._window = ConfirmWindow(
                partial(self._finish_watched, refusals), self._reopen_if_stale, partial(self._watch, refusals)
            )
        self._blocked: str | None = None
        self._link = Link(io, urls, name, self._opened, self._lost)

    def start(self) -> None:
        """Start to connect."""
        self._link.start()

    def abort(self, reason: str) -> None:
        """Report an error for all unconfirmed events. Call this method after the I/O thread has stopped."""
        self._is_closed = True
        self._channel = None
        self._fail_all(BrokerUnreachable(reason))
        self._room.wake()

    def close(self, on_closed: Callable[[], None]) -> None:
        """Close the connection, and report an error for all unconfirmed events.

        Call this method on the I/O thread.
        """
        self._is_closed = True
        self._channel = None
        self._link.close(on_closed)
        self._fail_all(BrokerUnreachable("the connection is closed"))

    @property
    def close_reason(self) -> Close:
        """The code and reason of the last close of the connection or channel."""
        return self._link.close_reason

    def problem(self) -> BrokerError | None:
        """Return the error that publishing would currently cause, or None if there is none."""
        if self._blocked is not None:
            return BrokerBlocked(f"the broker is blocking publishers: {self._blocked}")
        if self._channel is None:
            return BrokerUnreachable(self._link.problem or "the channel is not open yet")
        return None

    def publish(self, event: Event, on_done: Callable[[BrokerError | None], object] = lambda _: None) -> Future[None]:
        """Publish ``event`` to its exchange with its routing key. The broker's confirm completes the returned future.

        ``on_done`` gets the outcome before the future is completed. Raises TypeError or ValueError if AMQP or JSON
        cannot express the event. The future fails with the errors that ``send`` lists.
        """
        future = _Confirmation()

        def done(_: Encoded, error: BrokerError | None) -> None:
            on_done(error)
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.send(encode(event), done)
        return future

    def send(self, encoded: Encoded, done: Done, timeout: float | None = None, *, may_wait: bool = True) -> None:
        """Send an encoded event, and pass the outcome to ``done`` within ``timeout`` seconds.

        The default timeout is ``CONFIRM_TIMEOUT``. The outcome is None, or one of the errors BrokerUnreachable,
        BrokerBlocked, Unroutable, PublishRefused, EventTooLarge and ConfirmTimeout. If the window is full, this method
        waits for a place. Threads that must not wait, such as the I/O thread, pass ``may_wait=False``, so their events
        can exceed the window.

        ``done`` is called on the I/O thread, or on the caller's thread before ``send`` returns. ``done`` must not wait.
        An exception in ``done`` is only logged.
        """
        timeout = CONFIRM_TIMEOUT if timeout is None else timeout
        deadline = self._io.clock() + timeout
        problem = self.problem()
        if problem is None and may_wait and not self._room.acquire(timeout=timeout):
            problem = BrokerBlocked(f"{self._room.places} events are unconfirmed; the broker is slow or stuck")
        if problem is not None:
            done(encoded, problem)
            return
        self._waiting.append(_Outgoing(encoded, done, deadline, timeout, may_wait))
        if self._is_closed:
            self._fail_waiting(BrokerUnreachable("the connection is closed"))
        elif not self._scheduled:
            self._scheduled = True
            self._io.call(self._send)

    def _send(self) -> None:
        # The flag is cleared first, so that an event appended during the loop schedules another call.
        self._scheduled = False
        while self._waiting:
            outgoing = self._waiting.popleft()
            if self._blocked is not None or self._channel is None:
                self._finish(outgoing, self.problem())
                continue
            encoded = outgoing.encoded
            self._window.publish(outgoing, encoded.key, encoded.body, encoded.properties)
        if self._window and not self._sweeping:
            self._sweeping = True
            self._io.loop.call_later(0.25, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._io.clock()
        for late in self._window.give_up(lambda outgoing: outgoing.deadline <= now):
            self._finish(late, ConfirmTimeout(f"the broker did not confirm the event within {late.timeout:g} s"))
        if self._window:
            self._sweeping = True
            self._io.loop.call_later(0.25, self._sweep)

    def _opened(self, channel: Channel) -> None:
        self._blocked = None
        self._is_stale = False
        if self._refusals is not None:
            self._refusals.forget()
        connection = self._link.connection
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._window.open(channel, lambda: self._use(channel))

    def _use(self, channel: Channel) -> None:
        self._channel = channel
        self._on_state(None)

    def _lost(self, reason: str, close: Close) -> None:
        self._channel = None
        self._blocked = None
        is_of_event = close.largest_message is not None and self._fail_larger(close.largest_message, reason)
        self._fail_all(BrokerUnreachable(reason))
        self._on_state(reason)
        if is_of_event:
            return  # the event is not sent again, so the channel is not closed again
        if close.verdict is CloseKind.PERMANENT and self._link.is_hopeless:
            self._on_refused(reason)
        elif close.verdict is CloseKind.MISSING or self._link.is_hopeless:
            self._on_missing(reason)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self._blocked = frame.method.reason or "memory or disk alarm"
        reason = f"the broker is blocking publishers: {self._blocked}"
        # The channel remains open, so late confirms may still arrive.
        self._fail(self._window.give_up(lambda _: True), BrokerBlocked(reason))
        self._on_state(reason)

    def _on_unblocked(self, *_: Any) -> None:
        self._blocked = None
        self._on_state(None)

    def _finish_watched(self, refusals: DeadLeaderRefusals, outgoing: _Outgoing, error: BrokerError | None) -> None:
        self._watch(refusals, outgoing.encoded.key, error)
        self._finish(outgoing, error)

    def _watch(self, refusals: DeadLeaderRefusals, place: ReturnKey, error: BrokerError | None) -> None:
        route = place[1:]
        if isinstance(error, PublishRefused):
            self._is_stale |= refusals.refused(route, self._io.clock())
        else:
            refusals.confirmed(route)

    def _reopen_if_stale(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._link.reopen("the node refuses events; reconnecting")

    def _fail_larger(self, limit: int, reason: str) -> bool:
        """Report an error for all events with bodies over ``limit`` bytes, which made the broker close the channel.

        Return True if any event was too large.
        """
        larger = self._window.give_up(lambda outgoing: len(outgoing.encoded.body) > limit)
        for outgoing in larger:
            size = len(outgoing.encoded.body)
            what = f"event {outgoing.encoded.event.type!r}: the body has {size} bytes; allowed: {limit}"
            self._finish(outgoing, EventTooLarge(f"{what}, which is the broker's max_message_size ({reason})"))
        return bool(larger)

    def _fail_all(self, error: BrokerError) -> None:
        self._fail(self._window.clear(), error)

    def _fail(self, unconfirmed: list[_Outgoing], error: BrokerError) -> None:
        for outgoing in unconfirmed:
            self._finish(outgoing, error)
        self._fail_waiting(error)

    def _fail_waiting(self, error: BrokerError) -> None:
        # Events are removed one by one, because two threads may run this method at the same time during a close.
        with contextlib.suppress(IndexError):
            while True:
                self._finish(self._waiting.popleft(), error)

    def _finish(self, outgoing: _Outgoing, error: BrokerError | None) -> None:
        if outgoing.has_place:
            self._room.release()
        try:
            outgoing.done(outgoing.encoded, error)
        except Exception:  # a failing callback must not prevent other callbacks
            log.exception("the callback for an event's outcome raised an exception")
