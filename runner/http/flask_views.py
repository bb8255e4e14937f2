"""Functions for Flask applications that read bodies, publish events and answer errors with problem details."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, Response, has_request_context, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from runner.errors import BrokerUnreachable, ConfirmTimeout
from runner.http.direct_routes import CONFIRM_SECONDS, FAILURE
from runner.http.problem import Problem, invalid
from runner.strict_json import decode_json

if TYPE_CHECKING:
    from runner import Context, Event

Model = TypeVar("Model", bound=BaseModel)


def read_body(model: type[Model], noun: str, type: str = "about:blank") -> Model:
    """Read the request body as strict JSON, and validate the body with a model.

    ``noun`` names the body in errors, such as "order". Raises Problem with one of these status codes:

    - 415 if the headers do not declare plain JSON
    - 411 if the headers state no length
    - 400 if the body is not a JSON object
    - 422 with ``type`` if a field is invalid (the response names each invalid field)
    """
    if request.mimetype != "application/json":
        given = request.headers.get("Content-Type", "none")
        raise Problem(415, f"Content-Type: {given!r} is not supported; send application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding: encoded bodies are not supported; send plain JSON")
    if request.content_length is None:
        raise Problem(411, f"Content-Length: missing; send the length of the {noun} in bytes")
    try:
        value = decode_json(request.get_data(cache=False))
    except ValueError as error:
        raise Problem(400, f"the body is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body is not a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error, noun, model.model_fields, type) from None


def publish(context: Context, event: Event) -> None:
    """Publish an event in a Flask view, and wait until the broker has routed and confirmed it.

    If the request's direct route could not publish the event, this function does not publish it again.

    Raises BrokerError with the reason if the event might not have reached the broker.
    """
    failure = request.environ.get(FAILURE) if has_request_context() else None
    try:
        if failure is not None:
            raise failure
        # While the broker is unreachable, publishing fails immediately, so that waiting threads do not accumulate.
        if reason := context.broker_problem():
            raise BrokerUnreachable(reason)
        context.publish(event).result(timeout=CONFIRM_SECONDS)
    except CancelledError:
        raise BrokerUnreachable("the service is stopping") from None
    except TimeoutError:
        raise ConfirmTimeout(f"the broker did not confirm within {CONFIRM_SECONDS:g} s") from None


def answer_problems(app: Flask, log: logging.Logger) -> None:
    """Make a Flask application answer errors with problem details, except errors that have their own handler."""

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
        return respond(Problem(500, "an unexpected error occurred; see the service's log"))

    handlers: dict[type[Exception], Any] = {
        Problem: answer_problem,
        HTTPException: answer_http_error,
        Exception: answer_bug,
    }
    own = app.error_handler_spec[None][None]
    for error, handler in handlers.items():
        if error not in own:
            app.register_error_handler(error, handler)
