"""A session, which is one connection for one job while the caller waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.channel import Channel

from runner.address import Address
from runner.amqp.link import parameters_of
from runner.amqp.pika_adapter import PikaLoop, chosen_connection, terminate
from runner.amqp.reply_code import close_of
from runner.errors import BrokerUnreachable, RunnerError

#: Seconds to open a connection, equal to RabbitMQ's own limit (RabbitMQ: "Configuration", handshake_timeout). It is
#: longer than the limit of a link, because a session makes only one attempt, and RabbitMQ may need 5 s to resolve a
#: host name.
HANDSHAKE_TIMEOUT = 10
#: Seconds for the broker to close the connection after a failed job. While RabbitMQ is out of memory or disk space, it
#: reads nothing from a connection that publishes (RabbitMQ: "Memory and Disk Alarms").
CLOSE_TIMEOUT = 5.0
#: Seconds for pika to close a socket.
ABORT_TIMEOUT = 1.0


class Session:
    """An event loop that runs on the caller's thread until ``finish`` or ``fail``.

    ``on_channel`` gets the first channel, and each channel that ``open_channel`` opens.
    """

    def __init__(self, url: str, name: str, on_channel: Callable[[Channel], None]) -> None:
        self._url, self._name, self._on_channel = url, name, on_channel
        self.loop: Any = PikaLoop()
        self._connection: Any = None
        self._is_finished = False
        self._error: Exception | None = None

    def run(self, timeout: float | None = None) -> None:
        """Do the job within ``timeout`` seconds, or without a limit if ``timeout`` is None.

        Raises the error that was passed to ``fail``. Raises BrokerRefused if the broker refuses the connection
        permanently. Raises BrokerUnreachable if the connection fails for another reason, or after ``timeout``.
        """
        self._connection = chosen_connection()(
            parameters_of(self._url, self._name, HANDSHAKE_TIMEOUT),
            on_open_callback=lambda _: self.open_channel(),
            on_open_error_callback=lambda _, error: self._end(self._failure(error)),
            on_close_callback=self._closed,
            custom_ioloop=self.loop,
        )
        if timeout is not None:
            self.loop.call_later(timeout, lambda: self._time_out(f"not finished within {timeout:g} s"))
        self.loop.start()
        if self._connection.is_open:
            self._connection.close()
        self.loop.close()
        if self._error is not None:
            raise self._error

    @property
    def is_finished(self) -> bool:
        """True if the job has succeeded or failed."""
        return self._is_finished

    def open_channel(self) -> None:
        """Open a channel, for example after the broker has closed the last channel."""
        self._connection.channel(on_open_callback=self._on_channel)

    def finish(self) -> None:
        """Mark the job as done, and close the connection."""
        if not self._is_finished:
            self._is_finished = True
            # If the connection is already lost, its close callback stops the loop.
            if self._connection.is_open:
                self._connection.close()

    def fail(self, error: Exception) -> None:
        """Mark the job as failed, unless it is already done. The channel of a finished job may close."""
        if not self._is_finished:
            self._error = error
            self.finish()
            self.loop.call_later(CLOSE_TIMEOUT, self._abandon)

    def _abandon(self) -> None:
        """Close the socket. When the broker resumes reading, it still handles sent frames such as acknowledgements."""
        if not self._connection.is_closed:
            terminate(self._connection, f"the broker did not answer the close within {CLOSE_TIMEOUT:g} s")

    def _closed(self, _: Any, error: Exception) -> None:
        self._end(None if self._is_finished else self._failure(error))

    def _failure(self, error: BaseException) -> RunnerError:
        return close_of(error).error(str(Address.of(self._url)))

    def _time_out(self, reason: str) -> None:
        connection = self._connection
        if connection.is_open or connection.is_closed or connection.is_closing:
            self._end(BrokerUnreachable(reason))
            return
        # During a handshake, pika closes the socket and reports an error only in a later round of the loop.
        self._error = self._error or BrokerUnreachable(reason)
        terminate(connection, reason)
        self.loop.call_later(ABORT_TIMEOUT, self.loop.stop)

    def _end(self, error: Exception | None) -> None:
        self._error = self._error or error
        self.loop.stop()
