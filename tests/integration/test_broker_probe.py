"""Telling a broker from whatever else may be at a port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from runner.address import Address
from runner.broker.engine import find_engine
from runner.broker.port import is_free
from runner.broker.probe import Finding, Kind, probe
from tests.ports import free_port
from tests.rabbit import Rabbit, wait_until

Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], int]]:
    """Answer one connection with a function, on a free port."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            connection, _ = listener.accept()
            # The probe may close before it has read everything.
            with connection, contextlib.suppress(ConnectionError):
                answer(connection)

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for thread in threads:
        thread.join(10)
    for listener in listeners:
        listener.close()


def _look(port: int, scheme: str = "amqp", timeout: float = 5.0) -> Finding:
    return probe(Address.of(f"{scheme}://127.0.0.1:{port}/"), timeout)


def test_real_broker_is_recognised_on_an_unencrypted_connection_only(rabbit: Rabbit):
    # Its management API answers a moment before AMQP does.
    wait_until(lambda: probe(Address.of(rabbit.url), 5.0).kind is Kind.BROKER)
    assert probe(Address.of(rabbit.url.replace("amqp:", "amqps:")), 5.0).kind is Kind.OTHER


def test_port_without_a_listener_is_refused():
    port = free_port()

    assert _look(port) == Finding(Kind.NOTHING, "connection refused")
    assert is_free(port)


def test_host_that_does_not_exist_is_unreachable():
    assert probe(Address.of("amqp://broker.invalid/")).kind is Kind.UNREACHABLE


def test_answer_in_pieces_is_an_answer(serve):
    def answer(connection: socket.socket) -> None:
        assert connection.recv(8) == b"AMQP\x00\x00\x09\x01"
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\x01\x00\x00\x00\x00\x01\xd3\x00\x0a\x00\x0a\x00\x09":
            connection.sendall(bytes([byte]))
        connection.recv(1)

    assert _look(serve(answer)).kind is Kind.BROKER


def test_web_server_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")))

    assert finding == Finding(Kind.OTHER, "it answers b'HTTP/1.1 40'")


def test_other_version_of_amqp_is_named(serve):
    finding = _look(serve(lambda connection: connection.sendall(b"AMQP\x00\x01\x00\x00")))

    assert finding == Finding(Kind.OTHER, "it speaks another version of AMQP")


def test_listener_that_says_nothing_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.recv(8) and connection.recv(1)), timeout=0.1)

    assert finding == Finding(Kind.OTHER, "it says nothing within 0.1 s")


def test_listener_that_closes_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.recv(8)))

    assert finding == Finding(Kind.OTHER, "it closes the connection without an answer")


def test_port_with_a_listener_is_not_free(serve):
    port = serve(lambda connection: None)

    assert not is_free(port)
    socket.create_connection(("127.0.0.1", port)).close()


def test_engine_that_does_not_answer_is_no_engine(tmp_path):
    for name, code in (("docker", 1), ("podman", 0)):
        (tmp_path / name).write_text(f'#!/bin/sh\n[ "$1" = info ] && exit {code}\nexit 9\n')
        (tmp_path / name).chmod(0o755)

    assert find_engine(str(tmp_path)) == str(tmp_path / "podman")
    (tmp_path / "podman").unlink()
    assert find_engine(str(tmp_path)) is None
