"""What becomes of a message that could not be handled: the next wait queue, or the dead-letter queue."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from runner.errors import PluginError
from runner.headers import (
    ATTEMPT,
    CAUSATION,
    CRASHES,
    EXCEPTION,
    FAILED_AT,
    FIRST_ERROR,
    HOST,
    LAST_ERROR,
    MADE_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_KEY,
    ORIGIN_QUEUE,
    PID,
    PUBLISHED_AT,
    SENT_AT,
    SERVICE,
    SIGNAL,
    TRACEBACK,
    copy_headers,
    milliseconds_of,
)
from runner.logs import traceback_of
from runner.messages import Event, Message, Reject
from runner.topology.model import Ladder
from runner.worker.crash import Crashed

#: A dead letter says why in a few lines; the whole traceback is in the log.
MAX_ERROR = 500
MAX_TRACEBACK = 2000


def delay_before(message: Message, ladder: Ladder, error: BaseException) -> float | None:
    """Seconds until the next attempt, or None when the message is to be parked."""
    # A PluginError, such as an event that `publishes` does not list, would come at each attempt.
    if isinstance(error, Reject | PluginError) or message.attempt > len(ladder.steps):
        return None
    return ladder.steps[message.attempt - 1][0]


def recovered(message: Message, ladder: Ladder, error: BaseException, service: str) -> Event:
    """Return the copy of ``message`` to publish, with the same id, to its next retry queue or its dead-letter queue.

    ``encode_copy`` takes all other properties from the original.
    """
    text = shortened(error)
    headers: dict[str, Any] = copy_headers(message.headers)
    headers.setdefault(FIRST_ERROR, text)
    if not message.has_own_id:
        headers[MADE_ID] = True
    if (sent_at := milliseconds_of(message.headers.get(SENT_AT))) is not None:
        # The copy is sent at another time, while the event stays as old as it is.
        headers.setdefault(PUBLISHED_AT, sent_at)
    headers |= {
        LAST_ERROR: text,
        ORIGIN_QUEUE: message.queue,
        ORIGIN_EXCHANGE: message.exchange,
        ORIGIN_KEY: message.routing_key,
    }
    if message.causation_id:
        headers[CAUSATION] = message.causation_id
    if delay_before(message, ladder, error) is None:
        target = ladder.dead_letter
        headers |= {
            ATTEMPT: message.attempt,
            EXCEPTION: type(error).__name__,
            SERVICE: service,
            HOST: socket.gethostname(),
            PID: os.getpid(),
            FAILED_AT: int(time.time()),
        }
        if not isinstance(error, Crashed):  # whose traceback would be our own
            headers[TRACEBACK] = _utf8(traceback_of(error)[-MAX_TRACEBACK:])
        else:
            headers |= {CRASHES: error.suspect.total, SIGNAL: error.suspect.signal}
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
