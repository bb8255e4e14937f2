"""What each URL answers."""

from __future__ import annotations

import json
import logging
import re
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from runner import BrokerError, Context, Event
from runner.strict_json import decode_json

from .history import Histories
from .openapi import describe
from .order import Order, created_event, order_id_for
from .problem import CONTENT_TYPE, Problem, invalid_order, unavailable

if TYPE_CHECKING:
    from . import Options
    from .outbox import Outbox

MAX_BODY_BYTES = 64 * 1024
#: A little over the 5 s after which ``publish`` gives up by itself: no request ever hangs.
CONFIRM_SECONDS = 6.0

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
#: The beginning of every path here.
PATH = re.compile(r"/(?!/)")
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
#: In a request's environment: why its order could not be published, where that was tried before.
OUTCOME = "order_api.outcome"


class Hosts:
    """The names that a request's Host header may have."""

    def __init__(self, options: Options) -> None:
        own_name = f"[{options.host}]" if ":" in options.host else options.host
        self._allowed = {name.lower() for name in (*options.allowed_hosts, own_name)}

    def is_own(self, header: str) -> bool:
        """Whether this service answers for it. A web page may point its own name at this address (DNS rebinding)."""
        match = HOST.fullmatch(header)
        return match is not None and ("*" in self._allowed or match[1].lower() in self._allowed)


def create_app(options: Options, context: Context, outbox: Outbox | None = None) -> Flask:
    """Make the WSGI application; with an outbox, orders are taken without the broker too."""
    app = Flask("order_api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # An unknown URL is a 404, not a redirect to one that looks like it.
    app.url_map.merge_slashes = False
    hosts = Hosts(options)
    log = context.log
    histories = Histories(context, options.threads)

    @app.before_request
    def check_target() -> None:
        name = request.headers.get("Host", "")
        if not hosts.is_own(name):
            raise Problem(400, f"this service does not answer for the host {name!r}; see allowed_hosts")
        # RFC 9112, section 3.2: a target has no fragment; waitress cuts it off.
        if "#" in request.environ.get("REQUEST_URI", ""):
            raise Problem(400, "the request's target holds a '#'; allowed: a path and a query")
        # Werkzeug looks for a path without the slashes that it begins with, and adds one that is not there.
        if not PATH.match(request.environ["PATH_INFO"]):
            raise Problem(404, "no such URL; see / for those that there are")

    @app.post("/orders")
    def take_order() -> Response:
        key = _idempotency_key()
        order = _read_order()
        order_id = order_id_for(key, order)
        event, began = created_event(order, order_id), time.time()
        if outbox is None:
            _publish(context, event)
        else:
            outbox.take(order, order_id, key, event)
        if log.isEnabledFor(logging.INFO):
            log.handle(accepted_record(log, order, order_id, began))
        headers = {"Location": f"/orders/{order_id}"}
        return Response(accepted(order_id, str(event.id)), 202, headers, mimetype="application/json")

    @app.get("/orders/<order_id>")
    def show_order(order_id: str) -> Response:
        return _json(histories.show(order_id), headers={"Cache-Control": "no-store"})

    @app.get("/healthz")
    def is_alive() -> Response:
        return _json({"status": "alive"}, headers={"Cache-Control": "no-store"})

    @app.get("/readyz")
    def is_ready() -> Response:
        if outbox is not None:
            return _json({"status": "ready", "waiting": outbox.waiting()}, headers={"Cache-Control": "no-store"})
        if reason := context.broker_problem():
            raise unavailable(reason, advice="")
        return _json({"status": "ready"}, headers={"Cache-Control": "no-store"})

    @app.get("/openapi.json")
    def show_openapi() -> Response:
        return _json(describe())

    @app.get("/")
    def show_index() -> Response:
        links = {"orders": "/orders", "health": "/healthz", "readiness": "/readyz", "api": "/openapi.json"}
        return _json({"service": context.service, "links": links})

    @app.errorhandler(Problem)
    def answer_problem(problem: Problem) -> Response:
        level = logging.INFO if problem.status.value < 500 else logging.WARNING
        status = problem.status.value
        log.log(level, "%s %r refused with %s: %s", request.method, request.path, status, problem.detail)
        return _respond(problem)

    @app.errorhandler(HTTPException)
    def answer_http_error(error: HTTPException) -> Response:
        allow = {name: value for name, value in error.get_headers() if name == "Allow"}
        return answer_problem(Problem(error.code or 500, error.description or "", headers=allow))

    @app.errorhandler(Exception)
    def answer_bug(error: Exception) -> Response:
        log.error("%s %r failed", request.method, request.path, exc_info=error)
        return _respond(Problem(500, "something went wrong here; the service's log says what"))

    return app


def accepted(order_id: str, event_id: str) -> str:
    """The body of the answer to an order that was taken; both ids are UUIDs."""
    return f'{{"order_id": "{order_id}", "status": "accepted", "event_id": "{event_id}"}}\n'


def accepted_record(log: logging.Logger, order: Order, order_id: str, began: float) -> logging.LogRecord:
    """The line for ``log`` that says so.

    ``began`` is when its event was published, in seconds since the epoch. With that time the line stands before the
    lines of services that handle the event, which they may get before the broker's confirm is here.
    """
    given = (order_id, order.amount, order.currency, order.customer_email)
    text = "order %s accepted: %s %s for %s"
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, text, given, None, extra={"order": order_id})
    record.created = began
    return record


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value) + "\n", status, headers, mimetype="application/json")


def _respond(problem: Problem) -> Response:
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(problem.body(), problem.status.value, headers, mimetype=CONTENT_TYPE)


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key: not usable; allowed: 1 to 255 printable ASCII characters")
    return key


def _read_order() -> Order:
    if request.mimetype != "application/json":
        given = request.headers.get("Content-Type", "none")
        raise Problem(415, f"Content-Type: {given!r} is not supported; send application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding: not supported; send the JSON as it is")
    if request.content_length is None:
        raise Problem(411, "Content-Length: missing; say how long the order is")
    try:
        value = decode_json(request.get_data(cache=False))
    except ValueError as error:
        raise Problem(400, f"the body is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body is not a JSON object")
    try:
        return Order.model_validate(value)
    except ValidationError as error:
        raise invalid_order(error, list(Order.model_fields)) from None


def _publish(context: Context, event: Event) -> None:
    """Publish and wait for the confirm; a 503 problem in every other case."""
    outcome = request.environ.get(OUTCOME)
    try:
        if outcome is not None:
            raise outcome
        # Answered at once while the broker is known to be away, so that waiting threads do not pile up.
        if reason := context.broker_problem():
            raise unavailable(reason)
        context.publish(event).result(timeout=CONFIRM_SECONDS)
    except BrokerError as error:
        raise unavailable(str(error)) from None
    except CancelledError:
        raise unavailable("the service is stopping") from None
    except TimeoutError:
        raise unavailable(f"the broker did not confirm within {CONFIRM_SECONDS:g} s") from None
