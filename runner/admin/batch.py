"""A batch of events to publish, which is complete when the broker has routed and confirmed each event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pika.channel import Channel

from runner.amqp.confirms_and_returns import ConfirmWindow
from runner.amqp.properties import Encoded
from runner.amqp.reply_code import close_of
from runner.amqp.session import Session
from runner.errors import BrokerBlocked, BrokerError, Unroutable

#: The maximum number of unconfirmed events.
WINDOW = 500
#: Seconds without a confirm after which publishing fails.
STALLED = 30.0
#: Seconds between two checks for progress.
BEAT = 0.5


def publish_all(
    url: str, name: str, events: Iterable[Encoded], on_sent: Callable[[int], object] = lambda _: None
) -> None:
    """Publish events in order, over a connection named ``name``.

    Before it publishes an event, the function calls ``on_sent`` with the number of events that may have reached the
    broker, counting this event. Raises Unroutable if no queue gets an event, and PublishRefused if the broker refuses
    an event. Also raises BrokerBlocked, BrokerUnreachable, BrokerRefused, and the errors of ``events``. After an error,
    some events may have been published.
    """
    _Batch(url, name, events, on_sent).run()


class _Batch:
    def __init__(self, url: str, name: str, events: Iterable[Encoded], on_sent: Callable[[int], object]) -> None:
        self._events, self._on_sent = iter(events), on_sent
        self._session = Session(url, name, self._opened)
        self._unconfirmed: ConfirmWindow[None] = ConfirmWindow(self._on_outcome, self._on_round)
        self._sent = self._returned = 0
        self._problem: BrokerError | None = None
        self._heard = time.monotonic()
        self._is_all = False

    def run(self) -> None:
        self._session.run()

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(lambda _, error: self._session.fail(close_of(error).error("publishing")))
        self._channel = channel
        self._unconfirmed.open(channel, self._begin)

    def _begin(self) -> None:
        self._beat()
        self._pump()

    def _pump(self) -> None:
        while not self._is_all and len(self._unconfirmed) < WINDOW and self._is_going:
            try:
                one = next(self._events, None)
            except Exception as error:  # noqa: BLE001 - pika would treat it as a lost connection
                self._session.fail(error)
                return
            if one is None:
                self._is_all = True
                break
            self._sent += 1
            # The callback runs before the event is published, so that an interrupted caller knows every event that may
            # have been published.
            self._on_sent(self._sent)
            self._unconfirmed.publish(None, one.key, one.body, one.properties)
        if self._is_all and not self._unconfirmed:
            self._session.finish()

    @property
    def _is_going(self) -> bool:
        return not self._session.is_finished and self._channel.is_open

    def _on_outcome(self, _: None, error: BrokerError | None) -> None:
        if error is not None:
            # If an event is routed to several queues, one queue may have accepted the event even if another queue
            # refused it.
            self._returned += isinstance(error, Unroutable)
            self._problem = error

    def _on_round(self) -> None:
        self._heard = time.monotonic()
        if self._problem is not None:
            self._on_sent(self._sent - self._returned)
            self._session.fail(self._problem)
        self._pump()

    def _beat(self) -> None:
        if not self._is_going:
            return
        if time.monotonic() - self._heard > STALLED:
            self._session.fail(BrokerBlocked(f"the broker has confirmed no event for {STALLED:g} s"))
            return
        self._session.loop.call_later(BEAT, self._beat)
