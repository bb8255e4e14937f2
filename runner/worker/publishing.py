"""The events of a message on their way to the broker, until it has confirmed them all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from runner.amqp.properties import Encoded
from runner.errors import BrokerError, EventTooLarge, PublishRefused, Unroutable
from runner.worker.trace import Tracer
from runner.worker.work import Work

#: Seconds until events that the broker did not take are published again; doubled each time up to the second number.
REPUBLISH_DELAY, LONGEST_DELAY = 0.5, 10.0
#: Seconds before the same trouble is told of again, or a broker that is away for long would fill the log.
SAY_AGAIN = 10.0


class Publishing:
    """Publishes what messages come to, and then a note of each where they are traced."""

    def __init__(
        self,
        send: Callable[..., None],
        call_later: Callable[[float, Callable[[], None]], None],
        tracer: Tracer | None,
        log: logging.Logger,
        on_done: Callable[[Work], None],
        on_hopeless: Callable[[Work, BrokerError], None],
        on_again: Callable[[Work], None],
    ) -> None:
        """``on_done``: all is confirmed. ``on_hopeless``: no queue takes an event. ``on_again``: it is to be resumed.

        They may be called on the I/O thread, and do not wait.
        """
        self._send, self._call_later, self._tracer, self._log = send, call_later, tracer, log
        self._on_done, self._on_hopeless, self._on_again = on_done, on_hopeless, on_again
        self._say_again = self._say_dropped = 0.0
        self._dropped = 0

    def publish(self, work: Work, events: Sequence[Encoded], *, may_wait: bool = True) -> None:
        """Publish the events of a message; any thread, without ``may_wait`` also one that others wait for."""
        work.events = events
        if not events:
            self._published(work)
            return
        lock, left = threading.Lock(), len(events)
        failed: list[tuple[Encoded, BrokerError]] = []

        def confirmed(event: Encoded, error: BrokerError | None) -> None:
            nonlocal left
            with lock:
                left -= 1
                if error is not None:
                    failed.append((event, error))
                if left:
                    return
            if failed:
                self._unpublished(work, failed)
            else:
                self._published(work)

        for event in events:
            self._send(event, confirmed, may_wait=may_wait)

    def _published(self, work: Work) -> None:
        # Only now, since what becomes of a message is not known before.
        if self._tracer is None or work.note is not None or work.attempt is None or work.message is None:
            self._on_done(work)
            return
        try:
            work.note = self._tracer.note(work.message, work.attempt)
        except Exception as error:  # noqa: BLE001 - whatever a sender wrote that no note can hold
            self._drop(work, f"it cannot be written, {error}")
            return
        # Maybe on the I/O thread, which alone can make room in the window.
        self.publish(work, [work.note], may_wait=False)

    def _unpublished(self, work: Work, failed: list[tuple[Encoded, BrokerError]]) -> None:
        event, error = failed[0]
        if event is work.note and isinstance(error, Unroutable | PublishRefused):
            self._drop(work, str(error))
            return
        hopeless = next((error for _, error in failed if isinstance(error, Unroutable | EventTooLarge)), None)
        if hopeless is not None:
            self._on_hopeless(work, hopeless)
            return
        # The same events with the same ids, until the broker takes them or takes the delivery back.
        work.events = [event for event, _ in failed]
        delay = min(REPUBLISH_DELAY * 2.0 ** min(work.tries, 10), LONGEST_DELAY)
        work.tries += 1
        # One line for all that are in hand.
        self.say(f"not published, {error}: tried again until it is")
        self._call_later(delay, partial(self._on_again, work))

    def _drop(self, work: Work, why: str) -> None:
        # What is only told of a message must not keep it from being done.
        self._dropped += 1
        now = time.monotonic()
        if now >= self._say_dropped:
            self._say_dropped = now + SAY_AGAIN
            count = "1 note" if self._dropped == 1 else f"{self._dropped} notes"
            self._log.warning("trace: %s dropped by now, the last: %s", count, why)
        self._on_done(work)

    def wait(self, error: BrokerError | Exception, work: Work) -> None:
        """A message cannot be handled for now: have it resumed a little later."""
        self.say(f"nothing can be handled for now, {error}: tried again until it can")
        self._call_later(REPUBLISH_DELAY, partial(self._on_again, work))

    def say(self, text: str) -> None:
        """Tell people of trouble, once for all messages that meet with it."""
        now = time.monotonic()
        if now >= self._say_again:
            self._say_again = now + SAY_AGAIN
            self._log.warning("%s", text)
