"""A link that is closed while its connection is still being opened."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from runner.address import Address
from runner.amqp.io_thread import IoThread
from runner.amqp.link import Link
from tests.rabbit import Rabbit, wait_until

Proxy = tuple[int, Callable[[], int]]


@pytest.fixture
def stalling(rabbit: Rabbit, frames: int) -> Iterator[Proxy]:
    """A port that passes on only so many frames of the broker's, and how many it has passed on."""
    listener = socket.create_server(("127.0.0.1", 0))
    passed: list[bytes] = []
    ends: list[socket.socket] = [listener]

    def pass_back(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while len(passed) < frames:
                head = server.recv(7, socket.MSG_WAITALL)
                rest = server.recv(int.from_bytes(head[3:7], "big") + 1, socket.MSG_WAITALL)
                client.sendall(head + rest)
                passed.append(rest)

    def pass_on() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", Address.of(rabbit.url).port))
            ends.extend((client, server))
            threading.Thread(target=pass_back, args=(server, client), daemon=True).start()
            while data := client.recv(4096):
                server.sendall(data)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    yield listener.getsockname()[1], lambda: len(passed)
    for one in ends:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
    thread.join(10)


# Nothing, connection.start, connection.tune; with connection.open-ok it is open.
@pytest.mark.parametrize("frames", range(3))
def test_it_closes_at_once_at_every_step_of_the_handshake(stalling: Proxy, frames: int) -> None:
    port, passed = stalling
    crashed, closed = threading.Event(), threading.Event()
    io = IoThread(on_crash=crashed.set)
    link = Link(io, [f"amqp://127.0.0.1:{port}/"], "test", lambda _: None, lambda *_: None)
    io.start()
    link.start()
    wait_until(lambda: passed() == frames, 20, "the step")
    io.call(lambda: link.close(closed.set))
    assert closed.wait(10)
    assert not crashed.is_set()
    io.stop(5)


@pytest.mark.parametrize("moment", ["before it starts", "as it starts", "as nothing listens"])
def test_it_closes_at_once_before_there_is_a_connection(rabbit: Rabbit, moment: str) -> None:
    closed, crashed = threading.Event(), threading.Event()
    io = IoThread(on_crash=crashed.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"amqp://127.0.0.1:{port}/" if moment == "as nothing listens" else rabbit.url
    link = Link(io, [url], "test", lambda _: None, lambda *_: None)
    io.start()
    if moment != "before it starts":
        link.start()
    io.call(lambda: link.close(closed.set))
    assert closed.wait(10)
    assert not crashed.is_set()
    io.stop(5)
