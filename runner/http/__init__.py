"""The HTTP server for all services that answer HTTP requests.

``serve(app, context, host=…, port=…)`` serves a WSGI application, such as a Flask application. The server's limits
protect the service from slow and hostile clients. ``Problem`` is an error response with problem details (RFC 9457).
``stream(feed)`` answers with server-sent events, and ``feed.send`` sends an event. ``docs/http.md`` shows an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.http.direct_routes import DirectReply, DirectRequest
    from runner.http.flask_views import publish, read_body
    from runner.http.http_server import serve
    from runner.http.problem import Problem
    from runner.http.streams import Feed, stream

#: The maximum number of threads in a service.
MAX_THREADS = 256

_HOMES = {
    "DirectReply": "direct_routes",
    "DirectRequest": "direct_routes",
    "Feed": "streams",
    "Problem": "problem",
    "publish": "flask_views",
    "read_body": "flask_views",
    "serve": "http_server",
    "stream": "streams",
}

__all__ = [
    "MAX_THREADS",
    "DirectReply",
    "DirectRequest",
    "Feed",
    "Problem",
    "publish",
    "read_body",
    "serve",
    "stream",
]


def __getattr__(name: str) -> Any:
    """Import a name's module on first use, because ``check`` imports plugins but serves no requests."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"runner.http.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
