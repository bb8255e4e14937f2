"""A service's own HTTP application under ``runner.http.serve``, on a thread, as in a worker."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from concurrent.futures import Future
from typing import Any, Self

from runner.http import serve
from runner.ipc.lifeline import Lifeline


class WebContext:
    """A worker's context whose broker confirms immediately."""

    service, slot, stop_timeout = "web", "web.1", 6.0
    has_history = False

    def __init__(self) -> None:
        self.log = logging.getLogger("test.web")
        self.published: list[Any] = []
        self.is_ready, self.stopping = threading.Event(), threading.Event()
        self.status, self.needs_broker = "", True

    def publish(self, event: Any) -> Future[None]:
        future: Future[None] = Future()
        self.published.append(event)
        future.set_result(None)
        return future

    def ready(self, status: str = "", *, needs_broker: bool = True) -> None:
        self.status, self.needs_broker = status, needs_broker
        self.is_ready.set()

    def listen(self, host: str, port: int) -> socket.socket:
        return Lifeline(None).listen(host, port)

    @property
    def store(self) -> Any:
        raise AssertionError("nothing is kept here")

    @property
    def outbox(self) -> Any:
        raise AssertionError("nothing is kept here")

    def order_history(self, order_id: str) -> Any:
        raise AssertionError("nothing is recorded here")

    def routed(self, event: Any) -> Any:
        return event

    def broker_problem(self) -> str | None:
        return None

    def wait_stop(self, timeout: float | None = None) -> bool:
        return self.stopping.wait(timeout)


class Web:
    """A server and its clients."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.context = WebContext()
        given = {"host": "127.0.0.1", "port": 0, "needs_broker": False, **settings}
        self.thread = threading.Thread(target=lambda: serve(app, self.context, **given))

    def __enter__(self) -> Self:
        self.thread.start()
        assert self.context.is_ready.wait(10)
        self.port = int(self.context.status.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self.context.stopping.set()
        self.thread.join(15)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        """Send a request. Return the status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def send(self, *pieces: bytes) -> bytes:
        """Send raw bytes. Return all bytes that the server sends before it closes the connection."""
        received = b""
        with self.connect() as connection:
            # The server may close the connection before all bytes are sent, and its answer can still be read.
            with contextlib.suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while chunk := connection.recv(65536):
                    received += chunk
        return received
