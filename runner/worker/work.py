"""One message at work: its delivery, and what has become of it so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.amqp.consumer import Delivery
from runner.amqp.properties import Encoded
from runner.messages import Message
from runner.worker.trace import Try


@dataclass
class Work:
    """A delivery, and once its handler is through, the events that must be confirmed before its ack."""

    delivery: Delivery
    #: The time of the delivery, in seconds of the monotonic clock.
    delivered_at: float = 0.0
    message: Message | None = None
    events: Sequence[Encoded] | None = None
    #: What an event of its handler, or the commit, met with; the message takes its ladder.
    failure: BaseException | None = None
    is_recovery: bool = False
    #: What is said of the message once all is confirmed.
    told: Callable[[], None] | None = None
    #: How often its events were published in vain.
    tries: int = 0
    #: When its handler began and ended, and what became of it.
    attempt: Try | None = None
    #: The note of that, once its events are confirmed.
    note: Encoded | None = None
