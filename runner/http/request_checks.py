"""The checks of a request before the application gets it: its Host header, target and body; and the refusals."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.http.problem import Problem
from runner.http.streams import SUBSCRIBE, StreamBody

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

#: This machine, as its own clients name it.
LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
#: The beginning of every path that an application gets.
_PATH = re.compile(r"/(?!/)")


class AllowedHosts:
    """The names for which a service answers: a web page may point its own name at this address (DNS rebinding)."""

    def __init__(self, allowed: Iterable[str], host: str) -> None:
        """``host`` is the address to listen on; ``*`` among the ``allowed`` allows any name."""
        own_name = f"[{host}]" if ":" in host else host
        self._allowed = {name.lower() for name in (*allowed, own_name)}
        #: Of the few values that most requests have, the answer is known.
        self.is_own = lru_cache(maxsize=64)(self._is_own)

    def _is_own(self, header: str) -> bool:
        """Return True if the service answers for this value of the header."""
        match = _HOST.fullmatch(header)
        return match is not None and ("*" in self._allowed or match[1].lower() in self._allowed)


class RequestChecks:
    """The WSGI application that the server asks; it asks the service's own one."""

    def __init__(self, app: WSGIApplication, hosts: AllowedHosts, log: logging.Logger) -> None:
        """A Flask application also gets handlers for errors, where it has none."""
        self._app, self._hosts, self._log = app, hosts, log
        # Flask answers errors by itself, so none would get here.
        flask = sys.modules.get("flask")
        if flask is not None and isinstance(app, flask.Flask):
            from runner.http.flask_views import answer_problems

            answer_problems(app, log)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if problem := self._why_not(environ):
            return self._refuse(problem, environ, start_response)
        try:
            body = self._app(environ, start_response)
            if isinstance(body, StreamBody) and SUBSCRIBE in environ:
                environ[SUBSCRIBE](body.feed)
            return body
        except Problem as raised:
            # With the error, as the application may have begun an answer.
            return self._refuse(raised, environ, start_response, sys.exc_info())

    def _why_not(self, environ: WSGIEnvironment) -> Problem | None:
        """Return why the application does not get a request."""
        name = environ.get("HTTP_HOST", "")
        if not self._hosts.is_own(name):
            return Problem(400, f"this service does not answer for the host {name!r}; see allowed_hosts")
        # RFC 9112, section 3.2: a target has no fragment; waitress cuts it off.
        if "#" in environ.get("REQUEST_URI", ""):
            return Problem(400, "the request's target holds a '#'; allowed: a path and a query")
        # Werkzeug looks for a path without the slashes that it begins with, and adds one that is not there.
        if not _PATH.match(environ["PATH_INFO"]):
            return Problem(404, "no such URL; see / for those that there are")
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
