"""What follows a failed attempt: the next retry queue after a delay, or the dead-letter queue."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.config.value import format_duration
from runner.errors import BrokerError, PluginError
from runner.headers import copy_headers, milliseconds_of
from runner.logs import traceback_of
from runner.messages import (
    ATTEMPT,
    CAUSATION,
    MADE_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    PUBLISHED_AT,
    SENT_AT,
    Event,
    Message,
    Reject,
    Retry,
)
from runner.topology.model import Ladder
from runner.worker.crash_protection import Crashed

#: A dead letter says why in a few lines; the whole traceback is in the log.
MAX_ERROR = 500
MAX_TRACEBACK = 2000


@dataclass(frozen=True, slots=True)
class Failure:
    """The decision about a failed attempt."""

    error: BaseException
    #: The error in at most 500 characters.
    text: str
    ladder: Ladder
    #: Seconds until the next attempt; None for a message that is dead-lettered.
    delay: float | None

    def report(self, log: logging.Logger, message: Message, no_copy: BaseException | None = None) -> None:
        """Log the failure and what follows it; ``no_copy`` is why the broker has to dead-letter the original."""
        what = f"order {message.correlation_id}" if message.correlation_id else f"message {message.id}"
        attempt = f"attempt {message.attempt} of {len(self.ladder.steps) + 1} failed, "
        if isinstance(self.error, Crashed):
            attempt = ""  # no handler had it this time
        end = f"parked in {self.ladder.dead_letter}"
        if no_copy is not None:
            end += f" by the broker, since no copy can be made: {shortened(no_copy)}"
        elif self.delay is not None:
            end = f"again in {format_duration(self.delay)}"
        is_final = no_copy is not None or self.delay is None
        is_expected = isinstance(self.error, Retry | Reject | BrokerError | PluginError)
        log.log(
            logging.ERROR if is_final else logging.WARNING, "%s: %s%s: %s", what, attempt, self.text, end,
            exc_info=None if is_expected else self.error, extra={"order": message.correlation_id or None},
        )  # fmt: skip


class Retries:
    """Decides about the failed attempts of a service."""

    def __init__(self, service: str, ladders: Mapping[str, Ladder]) -> None:
        """``ladders`` has the retry delays and the dead-letter queue of each queue."""
        self._service, self._ladders = service, ladders

    def decide(self, message: Message, error: BaseException) -> Failure:
        """Choose between the next retry delay and the dead-letter queue."""
        ladder = self._ladders[message.queue]
        return Failure(error, shortened(error), ladder, delay_before(message, ladder, error))

    def copy(self, message: Message, failure: Failure) -> Event:
        """Return the copy of a message to publish; see ``failed_copy``."""
        return failed_copy(message, failure.ladder, failure.error, self._service)


def delay_before(message: Message, ladder: Ladder, error: BaseException) -> float | None:
    """Seconds until the next attempt, or None if the message is dead-lettered."""
    # A PluginError, such as an event that `publishes` does not list, would come at each attempt.
    if isinstance(error, Reject | PluginError) or message.attempt > len(ladder.steps):
        return None
    return ladder.steps[message.attempt - 1][0]


def failed_copy(message: Message, ladder: Ladder, error: BaseException, service: str) -> Event:
    """Return the copy of ``message`` to publish, with the same id, to its next retry queue or its dead-letter queue.

    ``encode_copy`` takes all other properties from the original.
    """
    text = shortened(error)
    headers: dict[str, Any] = copy_headers(message.headers)
    headers.setdefault("x-first-error", text)
    if not message.has_own_id:
        headers[MADE_ID] = True
    if (sent_at := milliseconds_of(message.headers.get(SENT_AT))) is not None:
        # The copy is sent at another time, while the event stays as old as it is.
        headers.setdefault(PUBLISHED_AT, sent_at)
    headers |= {
        "x-last-error": text,
        "x-origin-queue": message.queue,
        ORIGIN_EXCHANGE: message.exchange,
        ORIGIN_KEY: message.routing_key,
    }
    if message.causation_id:
        headers[CAUSATION] = message.causation_id
    if delay_before(message, ladder, error) is None:
        target = ladder.dead_letter
        headers |= {
            ATTEMPT: message.attempt,
            "x-exception": type(error).__name__,
            "x-service": service,
            "x-host": socket.gethostname(),
            "x-pid": os.getpid(),
            "x-failed-at": int(time.time()),
        }
        if not isinstance(error, Crashed):  # whose traceback would be our own
            headers["x-traceback"] = _utf8(traceback_of(error)[-MAX_TRACEBACK:])
        else:
            headers |= {"x-crashes": error.suspect.total, "x-signal": error.suspect.signal}
    else:
        target = ladder.steps[message.attempt - 1][1]
        headers[ATTEMPT] = message.attempt + 1
    return Event(
        type=message.type,
        body=message.body,
        exchange="",
        routing_key=target,
        headers=headers,
        id=message.id,
        correlation_id=message.correlation_id or None,
        content_type=message.content_type,
        timestamp=message.timestamp,
        app_id=message.app_id or None,
    )


def _utf8(text: str) -> str:
    # What a sender wrote may hold lone surrogates, which no AMQP header can.
    return text.encode("utf-8", "backslashreplace").decode()


def shortened(error: BaseException) -> str:
    """``ValueError: no such currency`` in at most 500 characters; of Retry and Reject only the words."""
    try:
        words = _utf8(str(error)) or type(error).__name__
    except Exception:  # noqa: BLE001 - an exception of a plugin may fail even at this
        words = "without words"
    text = words if type(error).__module__ == "runner.messages" else f"{type(error).__name__}: {words}"
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 3] + "..."
