"""A link that is closed while its connection is being opened, and a session whose broker does not answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.address import Address
from runner.amqp import session
from runner.amqp.io_thread import IoThread
from runner.amqp.link import Link
from runner.amqp.session import Session
from runner.amqp.wire.property_codec import Properties
from runner.errors import BrokerBlocked, PublishRefused, RunnerError
from tests.rabbit import Rabbit, wait_until

#: A port, and a function that returns the number of frames that the client has sent to it.
Proxy = tuple[int, Callable[[], int]]
#: Bytes of AMQP's protocol header, which a client sends first and which is not a frame.
HEADER = 8

pytestmark = pytest.mark.usefixtures("each_connection")


@pytest.fixture
def stalling(rabbit: Rabbit, frames: int) -> Iterator[Proxy]:
    """Run a proxy that forwards the client's data and the broker's first ``frames`` frames."""
    listener = socket.create_server(("127.0.0.1", 0))
    sent: list[bytes] = []
    ends: list[socket.socket] = [listener]

    def forward_back(server: socket.socket, client: socket.socket) -> None:
        for _ in range(frames):
            client.sendall(frame(server))

    def forward(server: socket.socket, client: socket.socket) -> None:
        data = client.recv(HEADER, socket.MSG_WAITALL)
        while data:
            sent.append(data)
            server.sendall(data)
            data = frame(client)

    def serve(work: Callable[[socket.socket, socket.socket], None], *both: socket.socket) -> None:
        with contextlib.suppress(OSError):
            work(*both)

    def accept() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", Address.of(rabbit.url).port))
            ends.extend((client, server))
            threading.Thread(target=serve, args=(forward_back, server, client), daemon=True).start()
            forward(server, client)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], lambda: len(sent)
    for one in ends:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
    thread.join(10)


def frame(stream: socket.socket) -> bytes:
    """Read one frame. Return empty bytes at the end of the stream."""
    head = stream.recv(7, socket.MSG_WAITALL)
    if len(head) < 7:
        return b""
    return head + stream.recv(int.from_bytes(head[3:7], "big") + 1, socket.MSG_WAITALL)


@pytest.fixture
def io() -> Iterator[IoThread]:
    """Yield an I/O thread, and check that no error of its own has stopped it."""
    crashed = threading.Event()
    one = IoThread(on_crash=crashed.set)
    one.start()
    yield one
    one.stop(5)
    assert not crashed.is_set()


def link_to(io: IoThread, url: str) -> Link:
    return Link(io, [url], "test", lambda _: None, lambda *_: None)


def close(io: IoThread, link: Link) -> None:
    closed = threading.Event()
    io.call(lambda: link.close(closed.set))
    assert closed.wait(10)


# The client sends the header, then connection.start-ok, then connection.tune-ok and connection.open.
@pytest.mark.parametrize(("frames", "sent"), [(0, 1), (1, 2), (2, 4)])
def test_a_link_closes_at_once_at_every_step_of_the_handshake(
    stalling: Proxy, io: IoThread, frames: int, sent: int
) -> None:
    port, count = stalling
    link = link_to(io, f"amqp://127.0.0.1:{port}/")
    link.start()
    wait_until(lambda: count() == sent, 20, f"the client has sent {sent} times with {frames} frames of the broker")
    close(io, link)


def test_a_link_closes_at_once_before_the_connection_opens(rabbit: Rabbit, io: IoThread) -> None:
    close(io, link_to(io, rabbit.url))
    link = link_to(io, rabbit.url)
    link.start()
    close(io, link)


def test_a_link_closes_at_once_while_it_waits_for_the_next_attempt(io: IoThread) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    link = link_to(io, f"amqp://127.0.0.1:{port}/")
    link.start()
    wait_until(lambda: "refused" in (link.problem or ""), 20, "nothing listens")
    close(io, link)


@pytest.mark.parametrize("frames", [1])
@pytest.mark.parametrize("first", ["close", "cut"])
def test_a_connection_that_is_cut_and_closed_at_the_same_time_reports_its_end_once(
    stalling: Proxy, io: IoThread, first: str
) -> None:
    port, count = stalling
    link, closed = link_to(io, f"amqp://127.0.0.1:{port}/"), threading.Event()
    link.start()
    wait_until(lambda: count() == 2, 20, "it is opening")

    def both() -> None:
        if first == "close":
            link.close(closed.set)
        io.cut_off("a cut")
        if first == "cut":
            link.close(closed.set)

    io.call(both)
    assert closed.wait(10)


# The broker opens a channel and then stops answering, like a broker without memory.
@pytest.mark.parametrize("frames", [4])
@pytest.mark.parametrize(
    ("error", "size"),
    [
        (BrokerBlocked("no progress"), None),
        (BrokerBlocked("no progress"), 0),
        (BrokerBlocked("no progress"), 300_000),
        (PublishRefused("full"), 10),
        (RunnerError("another one"), 10),
    ],
)
def test_a_failed_job_does_not_wait_for_a_broker_that_answers_nothing(
    stalling: Proxy, monkeypatch: pytest.MonkeyPatch, error: RunnerError, size: int | None
) -> None:
    port, _ = stalling
    monkeypatch.setattr(session, "CLOSE_TIMEOUT", 0.1)

    def fail(channel: Any) -> None:
        if size is not None:
            channel.basic_publish("", "nowhere", bytes(size), Properties.of(message_id="1"))
        one.fail(error)

    one = Session(f"amqp://127.0.0.1:{port}/", "test", fail)
    began = time.monotonic()
    with pytest.raises(type(error), match=f"^{error}$"):
        one.run()
    assert time.monotonic() - began < 5, "sooner than by the heartbeat"
