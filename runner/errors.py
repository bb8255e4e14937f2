"""The errors that FastCommerce expects, and their exit codes.

All messages have one form, in lower case and without a full stop: ``where: what is wrong, the value; what is allowed``.
"""

from __future__ import annotations

from typing import Any

#: All processes stopped as requested.
EXIT_OK = 0
#: A service is FATAL, or an unexpected error occurred.
EXIT_FAILURE = 1
#: The database is unreachable. A later start may succeed (EX_IOERR of BSD's sysexits.h).
EXIT_STORE = 74
#: The broker is unreachable. A later start may succeed (EX_TEMPFAIL of BSD's sysexits.h).
EXIT_BROKER = 75
#: The configuration or a plugin is wrong. A person must change it (EX_CONFIG of BSD's sysexits.h).
EXIT_CONFIG = 78
#: Stopped by SIGTERM: 128 plus the number of the signal, as shells report it.
EXIT_TERMINATED = 143
#: Stopped by Ctrl-C: 128 plus the number of the signal, as shells report it.
EXIT_INTERRUPTED = 130


class RunnerError(Exception):
    """An expected error, which is printed on one line, without a traceback."""

    exit_code = EXIT_FAILURE


class ConfigError(RunnerError):
    """Configuration errors. ``faults`` contains a line for each error, in the order of the files and their lines."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the constructor, so that another process gets the same error."""
        return type(self), (self.faults,)


class PluginError(RunnerError):
    """A plugin cannot be found, loaded or used."""

    exit_code = EXIT_CONFIG


class AlreadyRunning(RunnerError):
    """Another supervisor runs in this project's folder."""


class DeclarationRefused(RunnerError):
    """The broker has an object that differs from topology.yaml, or refuses an object of topology.yaml."""

    exit_code = EXIT_CONFIG
    #: The refused exchanges, queues and bindings. Empty if the broker has not accepted all other objects.
    things: tuple[Any, ...] = ()


class StoreError(RunnerError):
    """The database cannot be used: its address is wrong, permissions are missing, or its schema is newer."""

    exit_code = EXIT_CONFIG


class StoreUnreachable(StoreError):
    """The database is unreachable, locked or full. Trying again is safe and may succeed."""

    exit_code = EXIT_STORE


class BrokerError(RunnerError):
    """The broker could not complete a request. Trying again is safe and may succeed."""

    exit_code = EXIT_BROKER


class BrokerUnreachable(BrokerError):
    """The broker is unreachable, or the connection was lost before the broker answered."""


class BrokerRefused(RunnerError):
    """The broker refused a request permanently."""

    exit_code = EXIT_CONFIG


class BrokerBlocked(BrokerError):
    """The broker currently accepts no messages because of an alarm, or too many events are unconfirmed."""


class BrokerMissing(BrokerError):
    """No broker answers, and none can be started on this machine."""

    exit_code = EXIT_CONFIG


class PublishRefused(BrokerError):
    """The broker refused an event with a negative confirm, for example because a queue is full."""


class EventTooLarge(PublishRefused):
    """The body of an event is larger than the broker's ``max_message_size``, so the event can never be published."""


class ConfirmTimeout(BrokerError):
    """The broker did not confirm an event in time. The broker may have the event nevertheless."""


class Unroutable(BrokerError):
    """The broker returned an event, because no queue is bound for its routing key."""
