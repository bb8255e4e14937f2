"""What stands between the server and an application: the checks, refusals and streams that all services share."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runner.http.hosts import Hosts
from runner.http.problem import Problem
from runner.http.streams import SUBSCRIBE, StreamBody

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Response

#: The beginning of every path that an application gets.
_PATH = re.compile(r"/(?!/)")


class Reception:
    """The WSGI application that the server asks; it asks the service's own one."""

    def __init__(self, app: WSGIApplication, hosts: Hosts, log: logging.Logger) -> None:
        """A Flask application also gets handlers for errors, where it has none."""
        self._app, self._hosts, self._log = app, hosts, log
        # Flask answers errors by itself, so none would get here.
        flask = sys.modules.get("flask")
        if flask is not None and isinstance(app, flask.Flask):
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


def answer_problems(app: Flask, log: logging.Logger) -> None:
    """Have a Flask application answer errors with problem details, except those for which it has a handler."""
    from flask import Response, request
    from werkzeug.exceptions import HTTPException

    def respond(problem: Problem) -> Response:
        return Response(problem.body(), problem.status.value, problem.all_headers())

    def answer_problem(problem: Problem) -> Response:
        problem.report(log, request.method, request.path)
        return respond(problem)

    def answer_http_error(error: HTTPException) -> Response:
        allow = {name: value for name, value in error.get_headers() if name == "Allow"}
        return answer_problem(Problem(error.code or 500, error.description or "", headers=allow))

    def answer_bug(error: Exception) -> Response:
        log.error("%s %r failed", request.method, request.path, exc_info=error)
        return respond(Problem(500, "something went wrong here; the service's log says what"))

    handlers: dict[type[Exception], Any] = {
        Problem: answer_problem,
        HTTPException: answer_http_error,
        Exception: answer_bug,
    }
    own = app.error_handler_spec[None][None]
    for error, handler in handlers.items():
        if error not in own:
            app.register_error_handler(error, handler)
