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
    StoreAway,
    StoreError,
    Unroutable,
)
from runner.hooks import Context, MessageStore, hookimpl
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
    "MessageStore",
    "PluginError",
    "PublishRefused",
    "Reject",
    "Retry",
    "StoreAway",
    "StoreError",
    "Unroutable",
    "hookimpl",
]
