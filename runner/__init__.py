"""FastCommerce: RabbitMQ services, wired by YAML and kept running.

This is all that a plugin needs to import.
"""

from runner.errors import (
    BrokerAway,
    BrokerBlocked,
    BrokerError,
    ConfirmTimeout,
    PluginError,
    PublishRefused,
    Unroutable,
)
from runner.hooks import Context, hookimpl
from runner.messages import Event, Message, Reject, Retry

__version__ = "0.1.0"

__all__ = [
    "BrokerAway",
    "BrokerBlocked",
    "BrokerError",
    "ConfirmTimeout",
    "Context",
    "Event",
    "Message",
    "PluginError",
    "PublishRefused",
    "Reject",
    "Retry",
    "Unroutable",
    "hookimpl",
]
