"""The responses for each URL: a Flask application, the direct route for plain orders, and order lookups."""

from __future__ import annotations

import json
import re
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from runner import BrokerError, Context, StoreError
from runner.http import DirectReply, DirectRequest, Problem, publish, read_body

from .order import Order, created_event, order_id_for
from .problems import AUDIT_OFF, INVALID_ORDER, STORE_UNAVAILABLE, unavailable

if TYPE_CHECKING:
    from . import Options
    from .order_outbox import OrderOutbox

#: One in four threads may look up orders.
SHARE = 4
#: Seconds that a lookup waits for a thread.
PATIENCE = 1.0
OFF = (
    "audit is off, so no order history is recorded; add the service 'audit: {consumes: [audit.events]}' "
    "and a queue 'audit.events' that is bound to the exchanges, as described in docs/audit.md"
)
#: The format of order ids. Other text is not looked up, because a database may refuse the text.
ORDER_ID = re.compile(r"[!-~]{1,64}")
JSON = "application/json"
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@cache
def describe() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the API, with the JSON Schema of an order."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))
    document["components"]["schemas"]["Order"] |= Order.model_json_schema()
    return document


def create_app(options: Options, context: Context, outbox: OrderOutbox | None = None) -> Flask:
    """Create the application. With an outbox, the application accepts orders even while the broker is unreachable."""
    app = Flask("order_api", static_folder=None)
    # An unknown URL must be a 404, not a redirect to a similar URL.
    app.url_map.merge_slashes = False
    lookup = OrderLookup(context, options.threads)

    @app.post("/orders")
    def place_order() -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
            raise Problem(400, "Idempotency-Key: not valid; allowed: 1 to 255 printable ASCII characters")
        order = read_body(Order, "order", INVALID_ORDER)
        reply, began = accepted(order, key), time.time()
        if outbox is not None:
            outbox.accept(order, key, reply.event)
        else:
            try:
                publish(context, reply.event)
            except BrokerError as error:
                raise unavailable(str(error)) from None
        reply.write_line(context.log, began)
        return Response(reply.body, reply.status, reply.headers, content_type=reply.content_type)

    @app.get("/orders/<order_id>")
    def show_order(order_id: str) -> Response:
        return answer(lookup.show(order_id), {"Cache-Control": "no-store"})

    @app.get("/healthz")
    def is_alive() -> Response:
        return answer({"status": "alive"}, {"Cache-Control": "no-store"})

    @app.get("/readyz")
    def is_ready() -> Response:
        if outbox is None and (reason := context.broker_problem()):
            raise unavailable(reason, advice="")
        waiting = {} if outbox is None else {"waiting": outbox.waiting()}
        return answer({"status": "ready"} | waiting, {"Cache-Control": "no-store"})

    @app.get("/openapi.json")
    def show_openapi() -> Response:
        return answer(describe())

    @app.get("/")
    def show_index() -> Response:
        links = {"orders": "/orders", "health": "/healthz", "readiness": "/readyz", "api": "/openapi.json"}
        return answer({"service": context.service, "links": links})

    return app


def answer(value: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a 200 response with ``value`` as JSON."""
    return Response(json.dumps(value) + "\n", 200, headers, content_type=JSON)


def accepted(order: Order, key: str | None) -> DirectReply:
    """Return a new order's event, with the response and the log line to use after the event's confirm."""
    order_id = order_id_for(key, order)
    event = created_event(order, order_id)
    body = f'{{"order_id": "{order_id}", "status": "accepted", "event_id": "{event.id}"}}\n'.encode()
    line = ("order %s accepted: %s %s for %s", (order_id, order.amount, order.currency, order.customer_email), order_id)
    return DirectReply(event, "202 ACCEPTED", JSON, body, {"Location": f"/orders/{order_id}"}, line)


def place_directly(request: DirectRequest) -> DirectReply | None:
    """Accept a plain order on the server's loop.

    Return None if the Flask application must answer the request instead.
    """
    key, text = request.headers.get("IDEMPOTENCY_KEY"), request.body.lower()
    # Checking a non-ASCII address, in any notation, may take milliseconds.
    if not text.isascii() or b"\\u" in text or b"xn--" in text or not (key is None or IDEMPOTENCY_KEY.fullmatch(key)):
        return None
    try:
        return accepted(Order.model_validate(request.json()), key)
    except ValueError:
        return None


class OrderLookup:
    """Order lookups, which leave most of the server's threads free for requests that place orders."""

    def __init__(self, context: Context, threads: int) -> None:
        """``threads`` is the number of requests that the server can answer at the same time."""
        self._context = context
        # Without a limit, a database that hangs would soon block all threads.
        self._places = threading.BoundedSemaphore(max(1, threads // SHARE))

    def show(self, order_id: str) -> dict[str, Any]:
        """Return the id, status and history of an order.

        Raises a Problem with status 404 for an unknown order, 501 without audit, or 503 if the database is unreachable.
        """
        if not self._context.has_history:
            raise Problem(501, OFF, type=AUDIT_OFF)
        found = self._found(order_id) if ORDER_ID.fullmatch(order_id) else None
        if found is None:
            raise Problem(404, "unknown order; a newly accepted order may take a moment to appear")
        return {name: found[name] for name in ("order_id", "status", "history")}

    def _found(self, order_id: str) -> dict[str, Any] | None:
        if not self._places.acquire(timeout=PATIENCE):
            raise unavailable("too many order lookups at the same time", STORE_UNAVAILABLE, "; try again")
        try:
            return self._context.order_history(order_id)
        except StoreError as error:
            raise unavailable(str(error), STORE_UNAVAILABLE, "; try again") from None
        finally:
            self._places.release()
