"""Expected errors and their exit codes.

Every message is in lower case, has no final full stop, and follows the form
``where: what is wrong, the value; what is allowed``.
"""

from __future__ import annotations

from typing import Any

#: All processes stopped as requested.
EXIT_OK = 0
#: A service is FATAL, or an unexpected error occurred.
EXIT_FAILURE = 1
#: The database is unreachable. A later start may succeed (EX_IOERR in BSD's sysexits.h).
EXIT_STORE = 74
#: The broker is unreachable. A later start may succeed (EX_TEMPFAIL in BSD's sysexits.h).
EXIT_BROKER = 75
#: The configuration or a plugin has an error that the user must fix (EX_CONFIG in BSD's sysexits.h).
EXIT_CONFIG = 78
#: Stopped by SIGTERM. The exit code is 128 plus the signal number, as in shells.
EXIT_TERMINATED = 143
#: Stopped by Ctrl-C (SIGINT). The exit code is 128 plus the signal number, as in shells.
EXIT_INTERRUPTED = 130


class RunnerError(Exception):
    """An expected error, which is printed on one line without a traceback."""

    exit_code = EXIT_FAILURE


class ConfigError(RunnerError):
    """One or more configuration errors. ``faults`` contains a line for each error, ordered by file and line number."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the constructor, so that another process can recreate the error."""
        return type(self), (self.faults,)


class PluginError(RunnerError):
    """A plugin cannot be found, loaded or used."""

    exit_code = EXIT_CONFIG


class AlreadyRunning(RunnerError):
    """Another supervisor runs in this project's folder."""


class DeclarationRefused(RunnerError):
    """An object on the broker differs from topology.yaml, or the broker refuses an object in topology.yaml."""

    exit_code = EXIT_CONFIG
    #: The refused exchanges, queues and bindings if the broker has accepted all other objects. Otherwise empty.
    things: tuple[Any, ...] = ()


class StoreError(RunnerError):
    """The database has a wrong address, lacks a permission, or has a newer schema than this version supports."""

    exit_code = EXIT_CONFIG


class StoreUnreachable(StoreError):
    """The database is unreachable, locked or full. A retry is safe and may succeed."""

    exit_code = EXIT_STORE


class BrokerError(RunnerError):
    """The broker could not complete a request. A retry is safe and may succeed."""

    exit_code = EXIT_BROKER


class BrokerUnreachable(BrokerError):
    """The broker is unreachable, or the connection was lost before the broker answered."""


class BrokerRefused(RunnerError):
    """The broker refused a request permanently."""

    exit_code = EXIT_CONFIG


class BrokerBlocked(BrokerError):
    """The broker currently accepts no messages because of an alarm, or too many events are unconfirmed."""


class BrokerMissing(BrokerError):
    """No broker answers, and no broker can be started on this machine."""

    exit_code = EXIT_CONFIG


class PublishRefused(BrokerError):
    """The broker refused an event with a negative confirm, for example because a queue is full."""


class EventTooLarge(PublishRefused):
    """The body of an event is larger than the broker's ``max_message_size``, so the event can never be published."""


class ConfirmTimeout(BrokerError):
    """The broker did not confirm an event in time. The broker may have stored the event nevertheless."""


class Unroutable(BrokerError):
    """The broker returned an event, because no binding matches the routing key of the event."""
