"""The customer in a check, who posts orders to the order API."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable

from runner.learn.given_step import GivenStep
from runner.learn.observation import Response

#: Seconds for one response.
TIMEOUT = 10.0
CUSTOMER = "alice@example.com"
#: The namespace of the idempotency keys.
KEY_NAMESPACE = uuid.UUID("5d4bb3a9-61b0-5c53-9d0f-0f3a8e5c7b23")


class Customer:
    """A client of the order API. All methods can be called from any thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.responses: list[Response] = []

    def post(self, step: GivenStep, group: int, then: Callable[[str], None] = lambda order: None) -> None:
        """Post the orders of a step. ``group`` is the number of the step. Call ``then`` with each accepted order.

        The order ids of every check are the same, so that a gateway that times out for a share of the orders fails for
        the same orders each time.
        """
        started = time.monotonic()
        for number in range(step.orders or 0):
            if step.rate:
                time.sleep(max(0.0, started + number / step.rate - time.monotonic()))
            key = uuid.uuid5(KEY_NAMESPACE, f"{group}.{0 if step.same_key else number}")
            response = self._post_one(step, group, str(key))
            if response.status == 202 and response.order:
                then(response.order)

    def _post_one(self, step: GivenStep, group: int, key: str) -> Response:
        response = self._send(step, group, key)
        with self._lock:
            self.responses.append(response)
        return response

    def _send(self, step: GivenStep, group: int, key: str) -> Response:
        body = {"customer_email": CUSTOMER, "amount": step.amount, "currency": step.currency}
        body |= {"region": step.region} if step.region else {}
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        sent = time.monotonic()
        try:
            connection.request("POST", "/orders", json.dumps(body), headers)
            answer = connection.getresponse()
            found = json.loads(answer.read() or b"{}")
            status, order = answer.status, found.get("order_id")
        except (OSError, http.client.HTTPException, ValueError):
            status, order = 0, None
        finally:
            connection.close()
        return Response(status, order, time.time(), time.monotonic() - sent, group)
