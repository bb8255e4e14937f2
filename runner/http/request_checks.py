"""The layer between the server and an application, which checks and refuses requests and starts streams."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.http.problem import Problem
from runner.http.streams import SUBSCRIBE, StreamBody

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: The names by which local clients address this machine.
LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
#: The start of every path that an application gets.
_PATH = re.compile(r"/(?!/)")


class AllowedHosts:
    """The host names for which a service answers requests.

    Without a check of the Host header, a web page could let its own name resolve to this address (DNS rebinding).
    """

    def __init__(self, allowed: Iterable[str], host: str) -> None:
        """``host`` is the service's address. ``*`` in ``allowed`` allows any name."""
        own_name = f"[{host}]" if ":" in host else host
        self._allowed = {name.lower() for name in (*allowed, own_name)}
        #: ``_is_own`` with a cache, because most requests contain one of a few values.
        self.is_own = lru_cache(maxsize=64)(self._is_own)

    def _is_own(self, header: str) -> bool:
        """Return True if the service answers requests with this value of the Host header."""
        match = _HOST.fullmatch(header)
        return match is not None and ("*" in self._allowed or match[1].lower() in self._allowed)


class RequestChecks:
    """The WSGI application that the server calls, and that calls the service's application."""

    def __init__(self, app: WSGIApplication, hosts: AllowedHosts, log: logging.Logger) -> None:
        """Add handlers to a Flask application for errors that have no handler."""
        self._app, self._hosts, self._log = app, hosts, log
        # Flask itself answers errors that have no handler, so the errors would not reach this class.
        flask = sys.modules.get("flask")
        if flask is not None and isinstance(app, flask.Flask):
            from runner.http.flask_views import answer_problems

            answer_problems(app, log)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Check and answer a request."""
        if problem := self._why_not(environ):
            return self._refuse(problem, environ, start_response)
        try:
            body = self._app(environ, start_response)
            if isinstance(body, StreamBody) and SUBSCRIBE in environ:
                environ[SUBSCRIBE](body.feed)
            return _begun(body) if isinstance(body, Generator) else body
        except Problem as raised:
            # The error is passed on, because the application may already have started a response.
            return self._refuse(raised, environ, start_response, sys.exc_info())

    def _why_not(self, environ: WSGIEnvironment) -> Problem | None:
        """Return the reason for refusing a request, or None if the request is allowed."""
        name = environ.get("HTTP_HOST", "")
        if not self._hosts.is_own(name):
            return Problem(400, f"this service does not answer for the host {name!r}; see allowed_hosts")
        # A request target must not have a fragment (RFC 9112, section 3.2), but waitress would remove it silently.
        if "#" in environ.get("REQUEST_URI", ""):
            return Problem(400, "the request target contains a '#'; allowed: a path and a query")
        # Werkzeug removes additional slashes at the start of a path, and adds a missing slash.
        if not _PATH.match(environ["PATH_INFO"]):
            return Problem(404, "unknown URL; see / for all URLs")
        return None

    def _refuse(
        self, problem: Problem, environ: WSGIEnvironment, start_response: StartResponse, error: Any = None
    ) -> list[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        problem.report(self._log, method, path)
        body = problem.body()
        headers = problem.all_headers() | {"Content-Length": str(len(body))}
        start_response(f"{problem.status.value} {problem.status.phrase.upper()}", list(headers.items()), error)
        return [] if method == "HEAD" else [body]


def _begun(parts: Generator[bytes]) -> Iterator[bytes]:
    """Return the body of a generator, and read the first part now. A generator starts only when it is read."""
    first = next(parts, b"")

    def all_parts() -> Iterator[bytes]:
        yield first
        yield from parts

    return all_parts()
