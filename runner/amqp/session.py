"""A session that runs one job on its own connection while the caller is waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.channel import Channel

from runner.address import Address
from runner.amqp.link import parameters_of
from runner.amqp.pika_adapter import PikaLoop, chosen_connection, terminate
from runner.amqp.reply_code import close_of
from runner.errors import BrokerUnreachable, RunnerError

#: The time limit in seconds for opening a connection, equal to RabbitMQ's handshake_timeout (RabbitMQ:
#: "Configuration"). A session needs more time than a link, because a session makes only one attempt, and RabbitMQ may
#: need 5 s to resolve a host name.
HANDSHAKE_TIMEOUT = 10
#: The time limit in seconds for the broker to close the connection after a failed job. During a memory or disk alarm,
#: RabbitMQ does not read from publishing connections (RabbitMQ: "Memory and Disk Alarms").
CLOSE_TIMEOUT = 5.0
#: The time limit in seconds for pika to close a socket.
ABORT_TIMEOUT = 1.0


class Session:
    """An event loop that runs on the caller's thread until ``finish`` or ``fail`` is called.

    ``on_channel`` gets the first channel, and each channel that ``open_channel`` opens.
    """

    def __init__(self, url: str, name: str, on_channel: Callable[[Channel], None]) -> None:
        self._url, self._name, self._on_channel = url, name, on_channel
        self.loop: Any = PikaLoop()
        self._connection: Any = None
        self._is_finished = False
        self._error: Exception | None = None

    def run(self, timeout: float | None = None) -> None:
        """Run the job for at most ``timeout`` seconds, or without a limit if ``timeout`` is None.

        Raises the error that was passed to ``fail``. Raises BrokerRefused if the broker refuses the connection
        permanently. Raises BrokerUnreachable if the connection fails for another reason, or if the time limit is
        exceeded.
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
        """Open a channel, for example after the broker has closed the previous channel."""
        self._connection.channel(on_open_callback=self._on_channel)

    def finish(self) -> None:
        """Mark the job as done, and close the connection."""
        if not self._is_finished:
            self._is_finished = True
            # If the connection is already lost, its close callback stops the loop.
            if self._connection.is_open:
                self._connection.close()

    def fail(self, error: Exception) -> None:
        """Mark the job as failed, unless the job has already finished.

        A channel may still close after its job has finished.
        """
        if not self._is_finished:
            self._error = error
            self.finish()
            self.loop.call_later(CLOSE_TIMEOUT, self._abandon)

    def _abandon(self) -> None:
        """Close the socket without waiting for the broker.

        When the broker resumes reading, it still handles acks and other frames that were sent earlier.
        """
        if not self._connection.is_closed:
            terminate(self._connection, f"the broker did not confirm the close within {CLOSE_TIMEOUT:g} s")

    def _closed(self, _: Any, error: Exception) -> None:
        self._end(None if self._is_finished else self._failure(error))

    def _failure(self, error: BaseException) -> RunnerError:
        return close_of(error).error(str(Address.of(self._url)))

    def _time_out(self, reason: str) -> None:
        connection = self._connection
        if connection.is_open or connection.is_closed or connection.is_closing:
            self._end(BrokerUnreachable(reason))
            return
        # During a handshake, pika closes the socket and reports an error only in a later iteration of the event loop.
        self._error = self._error or BrokerUnreachable(reason)
        terminate(connection, reason)
        self.loop.call_later(ABORT_TIMEOUT, self.loop.stop)

    def _end(self, error: Exception | None) -> None:
        self._error = self._error or error
        self.loop.stop()
