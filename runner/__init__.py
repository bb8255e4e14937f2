"""FastCommerce: RabbitMQ services that are configured and connected by two YAML files.

Plugins import all public names from this package, except the names in ``runner.http``. docs/plugins.md describes each
public name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.bounded_file import FileTooLarge, read_bounded
    from runner.config.value import Duration
    from runner.contract import Contract, Tables
    from runner.email_address import ENCODED_WORD, EmailAddress, plain_domain, validate_mailbox
    from runner.errors import (
        BrokerBlocked,
        BrokerError,
        BrokerUnreachable,
        ConfirmTimeout,
        PluginError,
        PublishRefused,
        RunnerError,
        StoreError,
        StoreUnreachable,
        Unroutable,
    )
    from runner.escape import MOST_INDEXED, one_line, storable
    from runner.headers import seconds_of
    from runner.history.recording import record_message
    from runner.hooks import Context, MessageStore, hookimpl
    from runner.messages import Event, Message, Reject, Retry, TransactionResult
    from runner.store.prepared import Prepared, insert_new, prepared

__version__ = "0.1.0"

__all__ = [
    "ENCODED_WORD",
    "MOST_INDEXED",
    "BrokerBlocked",
    "BrokerError",
    "BrokerUnreachable",
    "ConfirmTimeout",
    "Context",
    "Contract",
    "Duration",
    "EmailAddress",
    "Event",
    "FileTooLarge",
    "Message",
    "MessageStore",
    "PluginError",
    "Prepared",
    "PublishRefused",
    "Reject",
    "Retry",
    "RunnerError",
    "StoreError",
    "StoreUnreachable",
    "Tables",
    "TransactionResult",
    "Unroutable",
    "hookimpl",
    "insert_new",
    "one_line",
    "plain_domain",
    "prepared",
    "read_bounded",
    "record_message",
    "seconds_of",
    "storable",
    "validate_mailbox",
]

#: The public names of each module. Public names that are not listed here are in ``runner.errors``.
_MODULES = {
    "runner.bounded_file": ("FileTooLarge", "read_bounded"),
    "runner.config.value": ("Duration",),
    "runner.contract": ("Contract", "Tables"),
    "runner.escape": ("MOST_INDEXED", "one_line", "storable"),
    "runner.headers": ("seconds_of",),
    "runner.history.recording": ("record_message",),
    "runner.hooks": ("Context", "MessageStore", "hookimpl"),
    "runner.email_address": ("ENCODED_WORD", "EmailAddress", "plain_domain", "validate_mailbox"),
    "runner.messages": ("Event", "Message", "Reject", "Retry", "TransactionResult"),
    "runner.store.prepared": ("Prepared", "insert_new", "prepared"),
}
#: The old and new names of renamed classes, for the error about an import of an old name.
_RENAMED = {"BrokerAway": "BrokerUnreachable", "StoreAway": "StoreUnreachable"}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use, so that processes without a plugin start faster."""
    if name in _RENAMED:
        # ``from runner import`` would replace an AttributeError with an ImportError that does not name the new class.
        raise ImportError(f"runner: {name} was renamed; import {_RENAMED[name]}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_MODULE_OF.get(name, "runner.errors")), name)
    return found
