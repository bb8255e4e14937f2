"""Detection of a broker at a port, as opposed to any other server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.address import Address
from runner.broker import probe as probe_module
from runner.broker.container import find_engine
from runner.broker.find import PrivateNode, find_broker
from runner.broker.port import is_free
from runner.broker.probe import Kind, ProbeResult, probe
from tests.ports import free_port
from tests.rabbit import Rabbit, wait_until

Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], int]]:
    """Return a function that serves one connection on a free port with an answer."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: Answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            connection, _ = listener.accept()
            # The probe may close the connection before the answer is complete.
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


def _look(port: int, scheme: str = "amqp", timeout: float = 5.0) -> ProbeResult:
    return probe(Address.of(f"{scheme}://127.0.0.1:{port}/"), timeout)


def test_real_broker_is_recognised_on_an_unencrypted_connection_only(rabbit: Rabbit):
    # The node's management API answers a moment before AMQP does.
    wait_until(lambda: probe(Address.of(rabbit.url), 5.0).kind is Kind.BROKER)
    assert probe(Address.of(rabbit.url.replace("amqp:", "amqps:")), 5.0).kind is Kind.OTHER


def test_port_without_a_listener_is_refused():
    port = free_port()

    assert _look(port) == ProbeResult(Kind.NOTHING, "connection refused")
    assert is_free(port)


def test_host_that_does_not_exist_is_unreachable():
    assert probe(Address.of("amqp://broker.invalid/")).kind is Kind.UNREACHABLE


def test_answer_in_pieces_is_recognised(serve):
    def answer(connection: socket.socket) -> None:
        assert connection.recv(8) == b"AMQP\x00\x00\x09\x01"
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\x01\x00\x00\x00\x00\x01\xd3\x00\x0a\x00\x0a\x00\x09":
            connection.sendall(bytes([byte]))
        connection.recv(1)

    assert _look(serve(answer)).kind is Kind.BROKER


def test_web_server_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")))

    assert finding == ProbeResult(Kind.OTHER, "the port speaks HTTP (RabbitMQ uses different ports for HTTP and AMQP)")


def test_rabbitmqs_own_http_api_is_no_broker(rabbit: Rabbit):
    # RabbitMQ's HTTP API closes the connection after 5 s without a line that it understands.
    finding = _look(urlsplit(rabbit.management).port or 0, timeout=30.0)

    assert finding.kind is Kind.CLOSED


def test_tls_server_is_reported_if_the_url_is_plain_amqp(serve):
    finding = _look(
        serve(lambda connection: connection.recv(8) and connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46"))
    )

    assert finding == ProbeResult(Kind.OTHER, "the port speaks TLS (URLs for TLS begin with amqps://)")


def test_plain_broker_is_reported_if_the_url_is_for_tls(rabbit: Rabbit):
    finding = _look(Address.of(rabbit.url).port, "amqps")

    assert finding == ProbeResult(Kind.OTHER, "the port does not speak TLS (URLs without TLS begin with amqp://)")


def test_broker_that_answers_only_after_its_resolver_timed_out_is_recognised(serve, monkeypatch):
    # If a RabbitMQ's host name does not resolve, it sometimes stalls for the 5 s of a resolver's timeout.
    monkeypatch.setattr(probe_module, "ANSWER_TIMEOUT", 20.0)
    resolved = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(8)
        resolved.wait(1.5)
        connection.sendall(b"\x01\x00\x00\x00\x00\x01\xd3\x00\x0a\x00\x0a\x00\x09")
        connection.recv(1)

    assert probe(Address.of(f"amqp://127.0.0.1:{serve(answer)}/")).kind is Kind.BROKER


def test_each_step_has_a_limit_longer_than_its_longest_wait():
    a_try_of_a_resolver = 5.0  # resolv.conf(5), timeout
    assert a_try_of_a_resolver < probe_module.ANSWER_TIMEOUT
    assert 2 * a_try_of_a_resolver < probe_module.RESOLVE_TIMEOUT
    assert probe_module.CONNECT_TIMEOUT <= 1.0, "a dead address delays the next one by at most this time"


@pytest.fixture
def resolve(monkeypatch) -> Callable[..., None]:
    """Return a function that makes a name resolve to addresses, or fail."""

    def install(*targets: tuple[str, int], error: OSError | None = None, until: threading.Event | None = None) -> None:
        real = socket.getaddrinfo

        def answer(host: str, port: int, *rest: Any, **named: Any):
            if host != "broker.example":
                return real(host, port, *rest, **named)
            if until is not None:
                until.wait(10)
            if error is not None:
                raise error
            return [
                (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, number))
                for one, number in targets
            ]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return install


BROKER = Address.of("amqp://broker.example/")


def test_slow_name_resolution_is_reported_as_the_cause(resolve):
    done = threading.Event()
    resolve(until=done)
    finding = probe(BROKER, 0.2)
    done.set()

    assert finding == ProbeResult(Kind.UNREACHABLE, "the host name did not resolve within 0.2 s")


def test_failed_name_resolution_is_reported_as_the_cause(resolve):
    resolve(error=socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))

    assert probe(BROKER) == ProbeResult(Kind.UNREACHABLE, "temporary failure in name resolution")


@pytest.mark.parametrize("dead", ["::1", "127.0.0.2", "not bound", "half-open"])
def test_broker_behind_a_dead_address_of_the_same_host_is_found(rabbit: Rabbit, resolve, dead):
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    full = [socket.socket() for _ in range(4)]
    port = listener.getsockname()[1]
    for one in full:  # unaccepted connections fill the backlog, so the next connection gets no answer
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
    addresses = {"not bound": ("::ffff", 1), "half-open": ("127.0.0.1", port)}
    resolve(addresses.get(dead, (dead, free_port())), ("127.0.0.1", Address.of(rabbit.url).port))
    try:
        assert probe(BROKER).kind is Kind.BROKER
    finally:
        for one in (listener, *full):
            one.close()


def test_the_most_informative_of_several_addresses_without_a_broker_is_reported(serve, resolve):
    port = serve(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    resolve(("127.0.0.1", free_port()), ("127.0.0.1", port), ("127.0.0.2", free_port()))
    assert probe(BROKER).kind is Kind.OTHER
    resolve(("::1", free_port()), ("127.0.0.1", free_port()))
    assert probe(BROKER) == ProbeResult(Kind.NOTHING, "connection refused")


def test_another_version_of_amqp_is_reported(serve):
    finding = _look(serve(lambda connection: connection.sendall(b"AMQP\x00\x01\x00\x00")))

    assert finding == ProbeResult(Kind.OTHER, "the port speaks another version of AMQP")


def test_silent_listener_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.recv(8) and connection.recv(1)), timeout=0.1)

    assert finding == ProbeResult(Kind.SILENT, "no answer within 0.1 s")


def test_listener_that_closes_is_no_broker(serve):
    finding = _look(serve(lambda connection: connection.recv(8)))

    assert finding == ProbeResult(Kind.CLOSED, "the connection was closed without an answer")


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


@pytest.mark.parametrize("error", [ConnectionResetError, ConnectionAbortedError])
def test_a_listener_that_closes_during_the_connect_is_asked_again(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A broker that is stopping does that. Afterwards no server listens, so a private broker can be started.
    outcomes = [error(), ConnectionRefusedError()]

    def connect(*_: object) -> None:
        raise outcomes.pop(0)

    monkeypatch.setattr(socket.socket, "connect", connect)
    found = find_broker([f"amqp://guest:guest@127.0.0.1:{free_port()}/"], True, tmp_path / "broker")
    assert isinstance(found, PrivateNode)
    assert outcomes == []
