"""Replay of dead letters to the queues in which they failed.

Messages are acknowledged after their copies are confirmed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pika.channel import Channel

from runner.amqp.ack_batching import AckBatch
from runner.amqp.confirms_and_returns import ConfirmWindow
from runner.amqp.properties import copied_properties
from runner.deadletters.browser import Reader
from runner.deadletters.dead_letter import DeadLetter
from runner.deadletters.replay_rules import Pace, ReplayRules, Tally, replayed_headers
from runner.errors import BrokerBlocked, BrokerError, Unroutable

#: The maximum number of unconfirmed copies.
MAX_UNCONFIRMED = 500
#: The number of replayed messages that are acknowledged in one batch.
ACK_BATCH = 100
#: Seconds between two checks for timeouts and interruptions.
TICK = 0.1
#: Seconds without a confirm after which the replay fails.
CONFIRM_TIMEOUT = 60.0
#: Seconds after which the replay requeues its messages and reads them again. RabbitMQ closes a channel if a message
#: remains unacked for half an hour (consumer_timeout). At a low rate, unselected messages would otherwise remain
#: unacked for that long.
MAX_HOLD = 600.0


@dataclass(slots=True)
class _Copy:
    tag: int
    message: DeadLetter
    target: str


def replay(
    url: str,
    queue: str,
    count: int,
    judge: ReplayRules,
    pace: Pace,
    tally: Tally,
    *,
    body: bytes | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Replay the messages that ``judge`` selects from the first ``count`` messages in a dead-letter queue.

    ``body`` replaces the body of each message. ``tally`` counts the results, even if the function raises
    BrokerUnreachable, BrokerBlocked or RunnerError. Once ``is_stopped`` returns True, the replay stops as soon as all
    sent copies are confirmed.
    """
    before = tally.replayed
    while True:
        # Each round reads and counts the remaining messages again.
        tally.stays.pop(queue, None)
        left = count - (tally.replayed - before)
        one = _Replay(url, queue, left, judge, pace, tally, body, on_progress, is_stopped)
        one.run()
        if not one.is_restarting or is_stopped():
            return


class _Replay(Reader):
    def __init__(
        self,
        url: str,
        queue: str,
        limit: int,
        judge: ReplayRules,
        pace: Pace,
        tally: Tally,
        body: bytes | None,
        on_progress: Callable[[int], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        # At a low rate, no message remains unacked for more than a minute before its replay.
        super().__init__(url, queue, credit=min(MAX_UNCONFIRMED, pace.within(60.0)), limit=limit)
        self._judge, self._pace, self._tally, self._body = judge, pace, tally, body
        self._on_progress, self._is_stopped = on_progress, is_stopped
        self._acks = AckBatch()
        self._pending: deque[_Copy] = deque()
        self._unconfirmed: ConfirmWindow[_Copy] = ConfirmWindow(self._on_outcome, self._on_round)
        self._is_timed = False
        self._began = self._confirmed = time.monotonic()
        #: True if this round stops early and another round follows.
        self.is_restarting = False

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        self._unconfirmed.open(channel, lambda: super(_Replay, self)._opened(channel))
        self._tick()

    @property
    def _held(self) -> int:
        return self.seen - self.answered - len(self._pending) - len(self._unconfirmed)

    @property
    def _is_waiting(self) -> bool:
        return bool(self._pending or self._unconfirmed)

    @property
    def _is_ending(self) -> bool:
        return self.is_restarting or self._is_stopped()

    def _on_message(self, tag: int, message: DeadLetter) -> None:
        if self._is_ending:
            return
        target, why = self._judge.judge(message)
        if target is not None:
            self._pending.append(_Copy(tag, message, target))
            self._pump()
        elif why is not None:
            self._tally.stay(message, why)

    def _pump(self) -> None:
        while self._pending and len(self._unconfirmed) < MAX_UNCONFIRMED and not self._is_over:
            now = time.monotonic()
            wait = self._pace.wait(now)
            if wait > 0:
                if not self._is_timed:
                    self._is_timed = True
                    self._session.loop.call_later(wait, self._go_on)
                return
            self._pace.sent(now)
            self._publish(self._pending.popleft())

    def _go_on(self) -> None:
        self._is_timed = False
        self._pump()

    def _publish(self, copy: _Copy) -> None:
        message = copy.message
        body = message.body if self._body is None else self._body
        try:
            headers = replayed_headers(message, int(time.time() * 1000))
            properties = copied_properties(message.properties, headers, message.properties.get("undecoded", b""))
        except ValueError as error:
            self._tally.stay(message, str(error))
            self._settle()
            return
        if not self._unconfirmed:
            self._confirmed = time.monotonic()
        self._unconfirmed.publish(copy, ("", "", copy.target), body, properties)

    def _on_outcome(self, copy: _Copy, error: BrokerError | None) -> None:
        if isinstance(error, Unroutable):
            self._tally.stay(copy.message, f"queue {copy.target!r} no longer exists")
        elif error is not None:
            self._tally.stay(copy.message, f"queue {copy.target!r} rejected the message and may be full")
        else:
            self._acks.done(copy.tag)
            self.answered += 1
            self._tally.replayed += 1

    def _on_round(self) -> None:
        self._confirmed = time.monotonic()
        self._on_progress(self._tally.replayed)
        self._refill()
        self._pump()
        self._settle()

    def _on_end(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """Acknowledge the replayed messages, and stop if no copy is pending."""
        if self._is_over:
            return
        if not self._unconfirmed or self._acks.waiting >= ACK_BATCH:
            self._acks.send(self._channel)
        if (self._is_read or self._is_ending) and not self._is_waiting:
            self._close()

    def _tick(self) -> None:
        if self._is_over:
            return
        now = time.monotonic()
        self.is_restarting = self.is_restarting or now - self._began > MAX_HOLD
        if self._is_ending:
            self._pending.clear()
            self._settle()
        if self._unconfirmed and now - self._confirmed > CONFIRM_TIMEOUT:
            # A confirmed copy is already in its queue, so the original must not be requeued.
            self._acks.send(self._channel)
            self._session.fail(
                BrokerBlocked(f"queue {self._queue!r}: no confirm from the broker for {CONFIRM_TIMEOUT:g} s")
            )
        self._session.loop.call_later(TICK, self._tick)
