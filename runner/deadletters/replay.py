"""Send parked messages back to the queue they failed in: each leaves the desk only after its copy is confirmed."""

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

#: How many messages may be on their way at once.
WINDOW = 500
#: How many replayed messages are acknowledged at once.
ACK_BATCH = 100
#: Seconds between two looks at the clock and at whether it was interrupted.
BEAT = 0.1
#: Seconds without any confirm after which it is given up.
STALLED = 60.0
#: Seconds after which everything is put back and read anew. RabbitMQ closes a channel that holds a message for half
#: an hour (its consumer_timeout), and with a rate what is not meant may be held longer.
TURN = 600.0


@dataclass(slots=True)
class _Copy:
    tag: int
    letter: DeadLetter
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
    """Replay what ``judge`` says of the first ``count`` messages of a dead-letter queue.

    ``body`` takes the place of each message's own. ``tally`` says what was done, also where this raises: BrokerAway,
    BrokerBlocked, or RunnerError. Once ``is_stopped``, it ends as soon as everything that is sent is confirmed.
    """
    before = tally.replayed
    while True:
        # Those that stay are read and counted anew.
        tally.stays.pop(queue, None)
        left = count - (tally.replayed - before)
        one = _Replay(url, queue, left, judge, pace, tally, body, on_progress, is_stopped)
        one.run()
        if not one.is_turning or is_stopped():
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
        # At a slow pace no message waits in our hands for longer than a minute.
        super().__init__(url, queue, credit=min(WINDOW, pace.within(60.0)), limit=limit)
        self._judge, self._pace, self._tally, self._body = judge, pace, tally, body
        self._on_progress, self._is_stopped = on_progress, is_stopped
        self._acks = AckBatch()
        self._pending: deque[_Copy] = deque()
        self._unconfirmed: ConfirmWindow[_Copy] = ConfirmWindow(self._on_outcome, self._on_round)
        self._is_timed = False
        self._began = self._confirmed = time.monotonic()
        #: Whether it ends before all is read, to begin anew.
        self.is_turning = False

    def _opened(self, channel: Channel) -> None:
        self._channel = channel
        self._unconfirmed.open(channel, lambda: super(_Replay, self)._opened(channel))
        self._beat()

    @property
    def _held(self) -> int:
        return self.seen - self.answered - len(self._pending) - len(self._unconfirmed)

    @property
    def _is_waiting(self) -> bool:
        return bool(self._pending or self._unconfirmed)

    @property
    def _is_ending(self) -> bool:
        return self.is_turning or self._is_stopped()

    def _on_letter(self, tag: int, letter: DeadLetter) -> None:
        if self._is_ending:
            return
        target, why = self._judge.judge(letter)
        if target is not None:
            self._pending.append(_Copy(tag, letter, target))
            self._pump()
        elif why is not None:
            self._tally.stay(letter, why)

    def _pump(self) -> None:
        while self._pending and len(self._unconfirmed) < WINDOW and not self._is_over:
            now = time.monotonic()
            wait = self._pace.wait(now)
            if wait > 0:
                if not self._is_timed:
                    self._is_timed = True
                    self._session.loop.call_later(wait, self._go_on)
                return
            self._pace.went(now)
            self._publish(self._pending.popleft())

    def _go_on(self) -> None:
        self._is_timed = False
        self._pump()

    def _publish(self, copy: _Copy) -> None:
        letter = copy.letter
        body = letter.body if self._body is None else self._body
        try:
            headers = replayed_headers(letter, int(time.time() * 1000))
            properties = copied_properties(letter.properties, headers, letter.properties.get("undecoded", b""))
        except ValueError as error:
            self._tally.stay(letter, str(error))
            self._settle()
            return
        if not self._unconfirmed:
            self._confirmed = time.monotonic()
        self._unconfirmed.publish(copy, ("", "", copy.target), body, properties)

    def _on_outcome(self, copy: _Copy, error: BrokerError | None) -> None:
        if isinstance(error, Unroutable):
            self._tally.stay(copy.letter, f"its queue {copy.target!r} is not there any more")
        elif error is not None:
            self._tally.stay(copy.letter, f"queue {copy.target!r} refuses it; it may be full")
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
        """Acknowledge what is confirmed, and end where nothing is left to wait for."""
        if self._is_over:
            return
        if not self._unconfirmed or self._acks.waiting >= ACK_BATCH:
            self._acks.send(self._channel)
        if (self._is_read or self._is_ending) and not self._is_waiting:
            self._close()

    def _beat(self) -> None:
        if self._is_over:
            return
        now = time.monotonic()
        self.is_turning = self.is_turning or now - self._began > TURN
        if self._is_ending:
            self._pending.clear()
            self._settle()
        if self._unconfirmed and now - self._confirmed > STALLED:
            # A confirmed copy is in its queue, so the message must not come back.
            self._acks.send(self._channel)
            self._session.fail(BrokerBlocked(f"queue {self._queue!r}: the broker confirms nothing for {STALLED:g} s"))
        self._session.loop.call_later(BEAT, self._beat)
