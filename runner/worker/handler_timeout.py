"""Detection of handlers that exceed the service's ``handler_timeout`` or the broker's ``consumer_timeout``."""

from __future__ import annotations

from collections.abc import Callable

from runner.messages import Message
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.handler import Handler

#: The shortest ``consumer_timeout``, in seconds, to which a cancelled consumer is attributed. RabbitMQ advises against
#: values below one minute (RabbitMQ: "Consumers", delivery acknowledgement timeout).
SHORTEST_TIMEOUT = 1.0
#: The fraction of a ``consumer_timeout`` that may pass before a delivery reaches the worker.
TIMEOUT_TOLERANCE = 0.1
#: The minimum time in seconds between the starts of two timed handlers, so that times cost little at any rate.
TIMED_EVERY = 0.001


class HandlerTimes:
    """The messages that handlers are processing, with the start time of each handler."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next_timed = 0.0
        #: For each handler thread: the message, the time of its delivery, and the start time of its handler.
        self._running: dict[int, tuple[Message, float, float]] = {}

    def around(self, handler: Handler) -> Handler:
        """Return a handler whose message is recorded while the handler is running.

        The duration of the handler is stored in the delivery, unless another handler of this worker was timed within
        the last ``TIMED_EVERY`` seconds.
        """

        def timed(one: DeliveryLifecycle) -> DeliveryEvent:
            since = self._monotonic()
            self._running[one.thread] = (one.message, one.received_at, since)
            try:
                return handler(one)
            finally:
                del self._running[one.thread]
                if since >= self._next_timed:
                    self._next_timed = since + TIMED_EVERY
                    one.handler_started, one.handler_time = since, self._monotonic() - since

        return timed

    def overdue(self, now: float, timeout: float) -> str | None:
        """Describe a message whose handler has run longer than ``timeout`` seconds. Return None if there is none."""
        for message, _, since in list(self._running.values()):
            if now - since > timeout:
                return f"{_described(message, now - since)}, longer than its handler_timeout"
        return None

    def unacknowledged(self, queue: str, now: float, timeout: float | None = None) -> str | None:
        """Describe the message whose handler exceeded the broker's ``consumer_timeout``. Return None if there is none.

        ``queue`` is the queue of the message, or "" for any queue. ``timeout`` is the ``consumer_timeout`` in seconds,
        or None if unknown. If the timeout is unknown, the oldest delivery is described. A message that mostly waited
        for a handler is never described, because its next delivery may be handled in time.
        """
        running = [one for one in list(self._running.values()) if queue in ("", one[0].queue)]
        oldest = max((now - delivered for _, delivered, _ in running), default=0.0)
        least = (oldest if timeout is None else timeout) * (1 - TIMEOUT_TOLERANCE)
        late = [
            (now - since, message)
            for message, delivered, since in running
            if now - delivered >= least and now - since >= max(SHORTEST_TIMEOUT, (now - delivered) / 2)
        ]
        longest, message = max(late, key=lambda one: one[0], default=(0.0, None))
        return None if message is None else f"{_described(message, longest)}, longer than the broker's consumer_timeout"


def _described(message: Message, seconds: float) -> str:
    id = message.id or "without id"
    return f"a handler has been processing message {id} from {message.queue} for {seconds:.1f} s"
