"""The dashboard, a web page that shows the messages, services and queues of a running system.

``serve(context, settings)`` serves the page until the service must stop. The plugin ``dashboard`` calls it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.dashboard.web_server import DashboardSettings, serve

__all__ = ["DashboardSettings", "serve"]


def __getattr__(name: str) -> Any:
    """Import the server on first use, because ``check`` imports plugins but serves no page."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("runner.dashboard.web_server"), name)
