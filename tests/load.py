"""A steady rate of orders from a simple client that opens a connection for each order."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass
from queue import Empty, Queue

from tests.running import ALICE

BODY = json.dumps(ALICE).encode()


@dataclass(frozen=True)
class Answer:
    """The start and end of one request, with its status or its error."""

    began: float
    ended: float
    status: int
    problem: str = ""


class Load:
    """A client that posts ``rate`` orders each second until it is stopped."""

    def __init__(self, port: int, rate: int, clients: int = 32) -> None:
        self._request = (
            b"POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(BODY)}\r\n\r\n".encode()
            + BODY
        )
        self._port, self._rate = port, rate
        self.answers: list[Answer] = []
        self._due: Queue[None] = Queue()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._post_when_due, daemon=True) for _ in range(clients)]
        self._threads.append(threading.Thread(target=self._pace, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Answer]:
        """Finish the running requests. Return all answers."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a request hangs"
        return self.answers

    def _pace(self) -> None:
        began, count = time.monotonic(), 0
        while not self._stopping.wait(0.002):
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(due - count):
                self._due.put(None)
            count = due

    def _post_when_due(self) -> None:
        while not self._stopping.is_set():
            try:
                self._due.get(timeout=0.05)
            except Empty:
                continue
            began = time.monotonic()
            try:
                status, problem = self._post(), ""
            except OSError as error:
                status, problem = 0, type(error).__name__
            self.answers.append(Answer(began, time.monotonic(), status, problem))

    def _post(self) -> int:
        with socket.create_connection(("127.0.0.1", self._port), timeout=20) as connection:
            connection.sendall(self._request)
            received = b""
            while data := connection.recv(4096):
                received += data
        if not received.startswith(b"HTTP/1.1 "):
            raise ConnectionResetError("no answer")
        return int(received[9:12])
