"""Orders at a steady rate, as events or as requests, with the time at which each was sent."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Self

import pika

from plugins.order_api.order import Order, created_event
from runner.amqp.properties import encode

#: Connections that take turns, so that one slow answer does not delay the next request.
CONNECTIONS = 8
_ORDER_ID = re.compile(rb'"order_id": ?"([^"]+)"')


def at_pace(rate: int, count: int, send: Callable[[int], None], first: int = 0, step: int = 1) -> None:
    """Call ``send`` with every ``step``-th number from ``first`` up to ``count``, number n at n / ``rate`` s."""
    began = time.monotonic()
    for number in range(first, count, step):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        send(number)


def publish(url: str, rate: int, count: int) -> dict[str, float]:
    """Publish ``order.created`` as the order API does. Return when each event was written to the socket, by order id.

    Each event is confirmed before the next is due. If a publisher leaves without its confirms, a quorum queue may lose
    events.
    """
    events = []
    for number in range(count):
        order = Order(customer_email=f"customer{number}@example.com", amount=Decimal(number % 900 + 1), currency="USD")
        order_id = str(uuid.uuid4())
        events.append((order_id, encode(created_event(order, order_id))))
    sent = {}
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()

    def send(number: int) -> None:
        order_id, event = events[number]
        sent[order_id] = time.monotonic()
        channel.basic_publish("orders.topic", "order.created", event.body, event.properties, mandatory=True)

    at_pace(rate, count, send)
    connection.close()
    return sent


def post(port: int, rate: int, count: int) -> dict[str, float]:
    """``POST /orders`` on keep-alive connections in turns. Return when each request was sent, by order id.

    Raises RuntimeError if an order is refused.
    """
    sent: dict[str, float] = {}
    problems: list[str] = []

    def one(first: int) -> None:
        def send(number: int) -> None:
            began = time.monotonic()
            status, body = client.order(number)
            match = _ORDER_ID.search(body)
            if status != 202 or match is None:
                problems.append(f"{status} {body!r}")
            else:
                sent[match[1].decode()] = began

        try:
            with Client(port) as client:
                at_pace(rate, count, send, first, CONNECTIONS)
        except OSError as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=one, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise RuntimeError(f"{len(problems)} orders were not accepted, the first: {problems[0]}")
    return sent


class Client:
    """A keep-alive connection to the order API. Raises OSError if no server listens or answers within 20 s."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def order(self, number: int) -> tuple[int, bytes]:
        """Place an order. Return status and body of the answer."""
        order = {"customer_email": f"customer{number}@example.com", "amount": number % 900 + 1, "currency": "USD"}
        body = json.dumps(order)
        self._connection.sendall(
            "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        return self._answer()

    def _answer(self) -> tuple[int, bytes]:
        received = b""
        while True:
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if end and length is not None and len(body) >= int(length[1]):
                return int(head[9:12]), body
