"""The decision between the next retry queue and the dead-letter queue after a failed attempt."""

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
from runner.messages import Event, Message, Reject, Retry
from runner.topology.model import RetryDelays
from runner.worker.crash_protection import Crashed

#: The maximum number of characters in an error or traceback header of a dead letter. The log contains the complete
#: traceback.
MAX_ERROR = 500
MAX_TRACEBACK = 2000


@dataclass(frozen=True, slots=True)
class Failure:
    """The decision about a failed attempt."""

    error: BaseException
    #: The error as text, limited to 500 characters.
    text: str
    delays: RetryDelays
    #: Seconds until the next attempt. None if the message is dead-lettered.
    delay: float | None

    def report(self, log: logging.Logger, message: Message, no_copy: BaseException | None = None) -> None:
        """Log the failure and the decision. ``no_copy`` is the error that prevented a copy, or None if none did."""
        what = f"order {message.correlation_id}" if message.correlation_id else f"message {message.id}"
        attempt = f"attempt {message.attempt} of {len(self.delays.steps) + 1} failed, "
        if isinstance(self.error, Crashed):
            attempt = ""  # no handler processed the message in this attempt
        end = f"dead-lettered to {self.delays.dead_letter}"
        if no_copy is not None:
            end += f" by the broker, because no copy could be published: {shortened(no_copy)}"
        elif self.delay is not None:
            end = f"again in {format_duration(self.delay)}"
        is_final = no_copy is not None or self.delay is None
        is_expected = isinstance(self.error, Retry | Reject | BrokerError | PluginError)
        log.log(
            logging.ERROR if is_final else logging.WARNING, "%s: %s%s: %s", what, attempt, self.text, end,
            exc_info=None if is_expected else self.error, extra={"order": message.correlation_id or None},
        )  # fmt: skip


class Retries:
    """The rules for a service's failed attempts."""

    def __init__(self, service: str, retry_delays: Mapping[str, RetryDelays]) -> None:
        """``retry_delays`` contains the retry delays and the dead-letter queue of each queue."""
        self._service, self._retry_delays = service, retry_delays

    def decide(self, message: Message, error: BaseException) -> Failure:
        """Choose between the next retry delay and the dead-letter queue."""
        delays = self._retry_delays[message.queue]
        return Failure(error, shortened(error), delays, delay_before(message, delays, error))

    def copy(self, message: Message, failure: Failure) -> Event:
        """Return the copy to publish for a failed message. See ``failed_copy``."""
        return failed_copy(message, failure.delays, failure.error, self._service)


def delay_before(message: Message, delays: RetryDelays, error: BaseException) -> float | None:
    """Return the number of seconds until the next attempt, or None if the message is dead-lettered."""
    # A PluginError would recur in every attempt. An example is an event that `publishes` does not contain.
    if isinstance(error, Reject | PluginError) or message.attempt > len(delays.steps):
        return None
    return delays.steps[message.attempt - 1][0]


def failed_copy(message: Message, delays: RetryDelays, error: BaseException, service: str) -> Event:
    """Return a copy of ``message``, with the same id, for the next retry queue or the dead-letter queue.

    ``encode_copy`` copies all other properties from the original message.
    """
    text = shortened(error)
    headers: dict[str, Any] = copy_headers(message.headers)
    headers.setdefault(FIRST_ERROR, text)
    if not message.has_own_id:
        headers[MADE_ID] = True
    if (sent_at := milliseconds_of(message.headers.get(SENT_AT))) is not None:
        # The copy is sent later, but the time of the original event must not change.
        headers.setdefault(PUBLISHED_AT, sent_at)
    headers |= {
        LAST_ERROR: text,
        ORIGIN_QUEUE: message.queue,
        ORIGIN_EXCHANGE: message.exchange,
        ORIGIN_KEY: message.routing_key,
    }
    if message.causation_id:
        headers[CAUSATION] = message.causation_id
    if delay_before(message, delays, error) is None:
        target = delays.dead_letter
        headers |= {
            ATTEMPT: message.attempt,
            EXCEPTION: type(error).__name__,
            SERVICE: service,
            HOST: socket.gethostname(),
            PID: os.getpid(),
            FAILED_AT: int(time.time()),
        }
        if not isinstance(error, Crashed):  # the traceback of Crashed would be the worker's own
            headers[TRACEBACK] = _utf8(traceback_of(error)[-MAX_TRACEBACK:])
        else:
            headers |= {CRASHES: error.crashing.total, SIGNAL: error.crashing.signal}
    else:
        target = delays.steps[message.attempt - 1][1]
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
    # A sender's text may contain lone surrogates, which are not allowed in an AMQP header.
    return text.encode("utf-8", "backslashreplace").decode()


def shortened(error: BaseException) -> str:
    """Return an error as text of at most 500 characters, such as ``ValueError: no such currency``.

    The text of Retry and Reject does not contain the name of the class.
    """
    try:
        words = _utf8(str(error)) or type(error).__name__
    except Exception:  # noqa: BLE001 - `str` of a plugin's exception may fail too
        words = "no text"
    text = words if type(error).__module__ == "runner.messages" else f"{type(error).__name__}: {words}"
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 3] + "..."
