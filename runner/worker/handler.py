"""A service's handler and its wrappers, each of which adds one feature."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from runner.amqp.properties import encode
from runner.messages import Message, TransactionResult, caused_by, events_of
from runner.worker.delivery import DeliveryEvent, DeliveryLifecycle
from runner.worker.event_routing import EventRouter
from runner.worker.storage import DeliveryStore

#: A function that handles a delivery on a handler thread and returns the delivery's next event. StoreUnreachable
#: postpones the message. Any other exception fails the attempt.
Handler = Callable[[DeliveryLifecycle], DeliveryEvent]


class Piece(Protocol):
    """A feature that wraps a handler."""

    def around(self, handler: Handler) -> Handler:
        """Return a handler that wraps ``handler``."""


def surrounded(
    handler: Handler,
    deduplication: Piece,
    recorder: Piece | None,
    crash_protection: Piece,
    times: Piece | None = None,
    log: Piece | None = None,
    faults: Piece | None = None,
) -> Handler:
    """Return ``handler`` inside all wrappers that are not None."""
    # The innermost wrapper comes first. In this order, an injected delay counts toward the handler's time, and an
    # injected crash is attributed to its message. The time of an attempt includes the time that a crashing message
    # waits for its turn, but not the inbox lookup.
    for piece in (faults, log, times, crash_protection, recorder, deduplication):
        if piece is not None:
            handler = piece.around(handler)
    return handler


class DeliveryLog:
    """A wrapper that logs each message before the handler runs."""

    def __init__(self, log: logging.Logger, quiet_queue: str) -> None:
        """Messages from ``quiet_queue`` are logged only at debug level."""
        self._log, self._quiet_queue = log, quiet_queue

    def around(self, handler: Handler) -> Handler:
        """Return a handler that logs each message and then calls ``handler``."""

        def logged(one: DeliveryLifecycle) -> DeliveryEvent:
            level = logging.DEBUG if one.message.queue == self._quiet_queue else logging.INFO
            if self._log.isEnabledFor(level):
                self._write(level, one.message)
            return handler(one)

        return logged

    def _write(self, level: int, message: Message) -> None:
        order = message.correlation_id
        details = f", attempt {message.attempt}" if message.attempt > 1 else ""
        details += ", redelivered" if message.redelivered else ""
        details += ", replayed" if message.replays else ""
        self._log.log(
            level, "%s %s: received from %s, key %s%s", "order" if order else "message", order or message.id,
            message.queue, message.routing_key, details, extra={"order": order or None},
        )  # fmt: skip


class PluginHandler:
    """The innermost handler, which calls the plugin and encodes the returned events."""

    def __init__(self, service: str, router: EventRouter, call: Callable[[Message, DeliveryStore], object]) -> None:
        self._service, self._router, self._call = service, router, call

    def __call__(self, one: DeliveryLifecycle) -> DeliveryEvent:
        """Handle a delivery."""
        outcome = self._call(one.message, one.store)
        if isinstance(outcome, TransactionResult):
            one.outgoing = []  # drops the events of an uncommitted attempt
            one.store.decide(outcome, partial(self._make_events, one))
        else:
            self._make_events(one, outcome)
        return DeliveryEvent.HANDLED

    def _make_events(self, one: DeliveryLifecycle, outcome: object) -> None:
        message, service, routed = one.message, self._service, self._router.routed
        # Encode all events before sending the first, so that an encoding error publishes no event.
        one.outgoing = [
            encode(routed(caused_by(message, event, index, service)))
            for index, event in enumerate(events_of(outcome))  # type: ignore[arg-type]
        ]
