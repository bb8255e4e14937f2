"""FastCommerce: RabbitMQ services, wired by YAML and kept running.

This is all that a plugin needs to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.contract import Contract
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
    from runner.mailbox import EmailAddress
    from runner.messages import Event, Message, Reject, Retry

__version__ = "0.1.0"

__all__ = [
    "BrokerAway",
    "BrokerBlocked",
    "BrokerError",
    "ConfirmTimeout",
    "Context",
    "Contract",
    "EmailAddress",
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


def __getattr__(name: str) -> Any:
    """Import what a plugin asks for; the processes that run no plugin start sooner without."""
    if name in __all__:
        for module in ("runner.hooks", "runner.errors", "runner.messages", "runner.contract", "runner.mailbox"):
            found = getattr(import_module(module), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
