"""The errors that FastCommerce expects, and the exit code each ends a process with.

Messages have one form, lower case and without a full stop:
``where: what is wrong, the value; what is allowed``.
"""

from __future__ import annotations

from typing import Any

#: Everything stopped as it was asked to.
EXIT_OK = 0
#: A service gave up, or something unexpected happened.
EXIT_FAILURE = 1
#: The database is away: worth another try later (EX_IOERR of BSD's sysexits.h).
EXIT_STORE = 74
#: The broker is away: worth another try later (EX_TEMPFAIL of BSD's sysexits.h).
EXIT_BROKER = 75
#: The configuration or a plugin is wrong: trying again cannot help (EX_CONFIG of sysexits.h).
EXIT_CONFIG = 78
#: Ended by SIGTERM: 128 and the signal's number, as shells say it.
EXIT_TERMINATED = 143
#: Ended by Ctrl-C: 128 and the signal's number, as shells say it.
EXIT_INTERRUPTED = 130


class RunnerError(Exception):
    """Anything FastCommerce expects may go wrong; printed as one line, without a traceback."""

    exit_code = EXIT_FAILURE


class ConfigError(RunnerError):
    """A YAML file cannot be used; ``faults`` holds one line per fault, ordered by file and line."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of, so that it is the same in another process."""
        return type(self), (self.faults,)


class PluginError(RunnerError):
    """A plugin cannot be found, loaded or used."""

    exit_code = EXIT_CONFIG


class AlreadyRunning(RunnerError):
    """Another runner holds this project's folder."""


class DeclarationRefused(RunnerError):
    """The broker holds something that differs from topology.yaml, or does not take what stands there."""

    exit_code = EXIT_CONFIG
    #: The exchanges, queues and bindings that the broker refused, if it accepted all the others of a declaration.
    things: tuple[Any, ...] = ()


class StoreError(RunnerError):
    """The database cannot be used as it is: wrong address, no rights, or a schema of a newer version."""

    exit_code = EXIT_CONFIG


class StoreAway(StoreError):
    """The database does not answer, is locked or full for now; nothing is lost by trying again."""

    exit_code = EXIT_STORE


class BrokerError(RunnerError):
    """The broker could not do what was asked of it; nothing is lost by trying again."""

    exit_code = EXIT_BROKER


class BrokerAway(BrokerError):
    """No connection to the broker, or it was lost before the answer."""


class BrokerRefused(RunnerError):
    """The broker refused a request, and would refuse it again."""

    exit_code = EXIT_CONFIG


class BrokerBlocked(BrokerError):
    """The broker takes no messages for now: memory or disk alarm, or too many without a confirm."""


class BrokerMissing(BrokerError):
    """No broker answers and none can be started here."""

    exit_code = EXIT_CONFIG


class PublishRefused(BrokerError):
    """The broker answered a publish with a negative confirm, as a full queue does."""


class EventTooLarge(PublishRefused):
    """An event's body is larger than the broker's ``max_message_size``: it would be refused again."""


class ConfirmTimeout(BrokerError):
    """The broker did not confirm a publish in time; it may or may not have the message."""


class Unroutable(BrokerError):
    """No queue is bound for an event's routing key, so the broker returned the event."""
