"""The order API as a network client sees it: the real server, sockets, and slow or hostile clients."""

import contextlib
import errno
import http.client
import json
import logging
import os
import re
import resource
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from plugins.order_api import Options, run
from runner import ConfirmTimeout, PluginError
from runner.errors import RunnerError
from runner.http import endpoint, http_server
from runner.ipc.lifeline import Lifeline
from runner.ipc.listening import give_up
from tests.machine import in_time

BODY = json.dumps({"customer_email": "alice@example.com", "amount": "149.99", "currency": "USD"}).encode()


class Context:
    """A worker's context whose broker confirms at once or when the test asks for it."""

    service = "order_api"
    stop_timeout = 6.0
    slot = "order_api.1"
    has_history = False

    def __init__(self) -> None:
        self.log = logging.getLogger("test.order_api")
        self.published: list[Any] = []
        self.hold = False
        self.asked = threading.Semaphore(0)
        self.is_ready = threading.Event()
        self.status = ""
        self.stopping = threading.Event()
        self.at_stop: Callable[[], None] = lambda: None

    def publish(self, event):
        future: Future[None] = Future()
        self.published.append((event, future))
        if not self.hold:
            future.set_result(None)
        self.asked.release()
        return future

    def ready(self, status="", *, needs_broker=True):
        self.status = status
        self.is_ready.set()

    def listen(self, host, port):
        self.listener = Lifeline(None).listen(host, port)
        return self.listener

    @property
    def store(self):
        raise AssertionError("nothing is kept here")

    @property
    def outbox(self):
        raise AssertionError("nothing waits here")

    def order_history(self, order_id):
        return None

    def routed(self, event):
        return event

    def broker_problem(self):
        return None

    def wait_stop(self, timeout=None):
        is_stopping = self.stopping.wait(timeout)
        if is_stopping:
            self.at_stop()
        return is_stopping


@pytest.fixture(params=[True, False], ids=["direct", "threads"], autouse=True)
def _both_ways(request, monkeypatch) -> None:
    """Run the test twice, with the direct route for plain orders and without it."""
    monkeypatch.setattr(Service, "direct", request.param)


class Service:
    """The plugin's ``run`` hook on a thread, as a worker runs it."""

    direct = True

    def __init__(self, **options) -> None:
        self.context = Context()
        self.error: Exception | None = None
        self.options = Options.model_validate({"port": 0, "direct": self.direct, **options})
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            run(self.options, self.context)
        except Exception as error:
            self.error = error
        finally:
            self.context.is_ready.set()

    def __enter__(self) -> Any:
        self.thread.start()
        assert self.context.is_ready.wait(10)
        if self.error is None:
            self.port = int(self.context.status.rpartition(":")[2])
        return self

    def __exit__(self, *_) -> None:
        for _, future in self.context.published:
            if not future.done():
                future.set_result(None)
        self.stop()

    def stop(self) -> None:
        self.context.stopping.set()
        self.thread.join(15)
        assert not self.thread.is_alive()

    def connect(self) -> Any:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method, path, body=None, headers=None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def order(self, **headers) -> Any:
        return self.ask("POST", "/orders", BODY, {"Content-Type": "application/json", **headers})

    def send(self, raw) -> Any:
        """Send raw bytes. Return everything that the server sends before it closes the connection."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read_all(connection)


def read_all(connection) -> Any:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def problem_of(raw) -> Any:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert b"Connection: close" in head
    return json.loads(body)


def post(headers, body=BODY) -> Any:
    return b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + b"\r\n" + body


@pytest.fixture
def service():
    with Service() as service:
        yield service


def test_the_service_logs_its_address_and_accepts_orders(service):
    assert service.context.status == f"listening on http://127.0.0.1:{service.port}"
    status, headers, body = service.order()
    assert status == 202
    assert headers["Location"] == "/orders/" + json.loads(body)["order_id"]
    assert len(service.context.published) == 1


def test_the_answer_does_not_name_the_server_program(service):
    _, headers, _ = service.ask("GET", "/healthz")
    assert "Server" not in headers


def test_one_connection_serves_many_orders(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    with contextlib.closing(connection):
        for _ in range(5):
            connection.request("POST", "/orders", BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 202


def test_a_foreign_host_is_refused_by_the_real_server(service):
    status, _, body = service.order(Host="evil.example")
    assert status == 400
    assert "evil.example" in json.loads(body)["detail"]
    assert not service.context.published


def test_only_the_exact_path_of_a_route_is_accepted(service):
    found = {}
    targets = ["//orders", "///orders", "/%2Forders", "/%2f%2forders", "http://localhost//orders", "orders", "*"]
    targets += [
        "/orders/",
        "/orders%2F",
        "/orders//",
        "/./orders",
        "/a/../orders",
        "/orders/.",
        "/ORDERS",
        "/orders;a=b",
    ]
    targets += ["/\\orders", "/orders%00", "/orders%20", "/orders.json", "/orders#a", "/#/orders", "/orders?#"]
    right = ["/orders", "/orders?a=1", "/%6Frders", "http://localhost/orders", "/orders?a=//b"]
    for target in (*targets, *right):
        request = post(b"Content-Length: %d\r\nConnection: close\r\n" % len(BODY))
        answer = service.send(request.replace(b"/orders", target.encode(), 1))
        found[target] = int(answer.split(b" ", 2)[1])
    assert {target: status for target, status in found.items() if status == 202} == dict.fromkeys(right, 202)
    assert {found[target] for target in targets} <= {400, 404, 405}
    assert {found[target] for target in targets if target.startswith(("//", "/%2"))} == {404}


def test_a_body_of_exactly_64_kib_is_read_and_one_byte_more_is_not(service):
    padded = BODY + b" " * (65536 - len(BODY))
    assert service.ask("POST", "/orders", padded, {"Content-Type": "application/json"})[0] == 202
    status, headers, body = service.ask("POST", "/orders", padded + b" ", {"Content-Type": "application/json"})
    assert status == 413
    assert headers["Content-Type"] == "application/problem+json"
    assert "65536" in json.loads(body)["detail"]


def test_a_100_mb_upload_is_refused_before_it_is_sent(service):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size, sent, received = 100 * 1024 * 1024, 0, b""
    piece = b"x" * 65536
    with service.connect() as connection:
        connection.sendall(post(b"Content-Length: %d\r\n" % size, b""))
        with contextlib.suppress(ConnectionError):
            while sent < size and not select.select([connection], [], [], 0)[0]:
                sent += connection.send(piece)
        received = read_all(connection)
    assert not received or problem_of(received)["status"] == 413
    assert sent < size / 4
    # On Linux ``ru_maxrss`` is in kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_client_that_expects_100_continue_before_a_large_body_is_refused(service):
    answer = service.send(post(b"Content-Length: 104857600\r\nExpect: 100-continue\r\n", b""))
    assert b"100 Continue" not in answer
    assert problem_of(answer)["status"] == 413


def test_a_client_that_expects_100_continue_before_an_order_gets_it(service):
    with service.connect() as connection:
        connection.sendall(
            post(b"Content-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n" % len(BODY), b"")
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(BODY)
        assert read_all(connection).startswith(b"HTTP/1.1 202")


def test_headers_over_16_kib_are_refused(service):
    answer = service.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 17_000 + b"\r\n\r\n")
    assert problem_of(answer)["status"] == 431


LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SECOND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKED, 400),
        (LENGTH + LENGTH, BODY, 400),
        (LENGTH + b"Content-Length: 3\r\n", BODY, 400),
        (LENGTH.replace(b"\r\n", b", 3\r\n"), BODY, 400),
        (b"Content-Length: +4\r\n", BODY, 400),
        (b"Content-Length: -4\r\n", BODY, 400),
        (b"Content-Length : 4\r\n", BODY, 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED, 400),
        (b"X-Folded: a\r\n " + LENGTH, BODY, 400),
        (b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH, CHUNKED, 400),
        (LENGTH.replace(b"\r\n", b"\n") + b"Transfer-Encoding: chunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: chunked\r\n", CHUNKED, 411),
        (b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED, 411),
    ],
)
def test_a_request_of_ambiguous_length_is_refused_and_the_bytes_after_it_are_not_read(service, headers, body, status):
    answer = service.send(post(headers, body + SECOND))
    assert answer.count(b"HTTP/1.") == 1
    assert problem_of(answer)["status"] == status
    assert not service.context.published


def test_an_http_1_0_client_cannot_smuggle_requests_either(service):
    answer = service.send(post(LENGTH + b"Transfer-Encoding: chunked\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert problem_of(answer)["status"] == 400


@pytest.mark.parametrize("raw", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"get / HTTP/1.1\r\n\r\n"])
def test_bytes_that_are_not_http_get_a_400_problem(service, raw):
    assert problem_of(service.send(raw))["status"] == 400


def test_incomplete_requests_do_not_block_other_clients(service):
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            connection = stack.enter_context(service.connect())
            connection.sendall(b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        started = time.monotonic()
        assert service.ask("GET", "/healthz")[0] == 200
        assert service.order()[0] == 202
        assert time.monotonic() - started < in_time(2)


def test_too_many_silent_connections_make_room_for_the_newest(monkeypatch):
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 20)
    with Service() as service, contextlib.ExitStack() as stack:
        oldest = stack.enter_context(service.connect())
        oldest.sendall(b"GET / HT")
        for _ in range(60):
            stack.enter_context(service.connect()).sendall(b"GET / HT")
            assert service.ask("GET", "/healthz")[0] == 200
        assert read_all(oldest) == b""


def test_the_number_of_connections_follows_the_number_of_descriptors(monkeypatch, caplog):
    used = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("runner.http.endpoint.resource.getrlimit", lambda _: (used + 64, 10_000))
    with Service() as service, contextlib.ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(service.connect())
        assert service.ask("GET", "/healthz")[0] == 200
        assert service.order()[0] == 202
        open_now = len(os.listdir("/proc/self/fd"))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    said = re.match(r"at most (\d+) connections can be open, because this process is limited to", warning)
    assert said is not None
    assert 10 <= int(said[1]) <= 32
    assert open_now - used < 120 + 64


@pytest.mark.parametrize(
    ("limit", "most"), [(0, 1), (3, 2), (20, 10), (64, 32), (100, 68), (544, 512), (10_000, 512), (-1, 512)]
)
def test_some_descriptors_are_reserved_for_other_purposes(monkeypatch, caplog, limit, most):
    monkeypatch.setattr("runner.http.endpoint.resource.getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr("runner.http.endpoint.os.listdir", lambda _: [])
    assert endpoint.most_connections(512, logging.getLogger("test.order_api")) == most
    assert len(caplog.records) == (most < 512)


def test_orders_are_accepted_again_after_a_moment_without_descriptors(monkeypatch, caplog):
    accept, calls = socket.socket.accept, iter(range(5))

    def fail(one: socket.socket) -> Any:
        if one.family == socket.AF_INET and next(calls, None) is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(one)

    with Service() as service:
        monkeypatch.setattr("waitress.wasyncore.dispatcher.accept", lambda self: fail(self.socket))
        assert service.order()[0] == 202
    said = [record.getMessage() for record in caplog.records if "ulimit" in record.getMessage()]
    assert said == ["new connections cannot be accepted: Too many open files (ulimit -n)"]


def test_a_silent_client_is_disconnected(monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1)
    with Service() as service, service.connect() as silent:
        assert read_all(silent) == b""


def test_a_client_that_sends_a_request_byte_by_byte_is_disconnected(monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1)
    with Service() as service, service.connect() as slow:
        deadline = time.monotonic() + 10
        with contextlib.suppress(ConnectionError):
            # Each byte counts as activity, so only the limit of the request's age can close the connection.
            while not select.select([slow], [], [], 0.1)[0]:
                slow.send(b"x")
                assert time.monotonic() < deadline


def test_health_is_answered_while_every_thread_waits_for_the_broker():
    with Service(threads=2) as service:
        service.context.hold = True
        callers = [threading.Thread(target=service.order) for _ in range(6)]
        for caller in callers:
            caller.start()
        assert service.context.asked.acquire(timeout=10)
        assert service.context.asked.acquire(timeout=10)
        started = time.monotonic()
        assert service.ask("GET", "/healthz")[0] == 200
        assert service.ask("GET", "/readyz")[0] == 200
        assert time.monotonic() - started < in_time(2)
        service.context.hold = False
        for _, future in list(service.context.published):
            future.set_exception(ConfirmTimeout("no confirm within 5 s"))
        for caller in callers:
            caller.join(10)
            assert not caller.is_alive()


def test_an_idle_service_stops_at_once(service):
    with service.connect():
        assert service.ask("GET", "/healthz")[0] == 200
        started = time.monotonic()
        service.stop()
        assert time.monotonic() - started < in_time(1)
    with pytest.raises(ConnectionRefusedError):
        service.connect()


@pytest.mark.parametrize("has_moved", [False, True])
def test_connections_that_wait_to_be_accepted_during_the_stop_are_answered(has_moved):
    with Service() as service, contextlib.ExitStack() as stack:
        listener = service.context.listener
        if has_moved:
            give_up(listener)
        connections: list[Any] = []

        def connect():
            """Connect on the accepting thread, which cannot accept the connection meanwhile."""
            connections.extend(stack.enter_context(service.connect()) for _ in range(50))
            for one in connections:
                one.sendall(SECOND)

        service.context.at_stop = connect
        service.stop()
        assert len(connections) == 50
        for one in connections:
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
    assert listener.fileno() == -1


def test_an_unconfirmed_order_is_answered_before_the_service_stops(service):
    service.context.hold = True
    answers = []
    caller = threading.Thread(target=lambda: answers.append(service.order()))
    caller.start()
    assert service.context.asked.acquire(timeout=10)
    service.context.stopping.set()
    deadline = time.monotonic() + 10
    refused = False
    while not refused and time.monotonic() < deadline:
        try:
            service.connect().close()
        except ConnectionError:
            refused = True
    assert refused
    assert service.thread.is_alive()
    service.context.published[0][1].set_result(None)
    caller.join(10)
    assert answers[0][0] == 202


def test_a_stop_does_not_wait_forever(service, monkeypatch):
    monkeypatch.setattr(http_server, "STOP_RESERVE", 100.0)
    service.context.hold = True
    with service.connect() as connection:
        connection.sendall(post(LENGTH))
        assert service.context.asked.acquire(timeout=10)
        service.stop()


def test_no_thread_is_left_behind():
    with Service() as service:
        service.order()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("waitress") for thread in threading.enumerate()):
        assert time.monotonic() < deadline


def test_a_port_that_is_in_use_is_reported_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Service(port=port) as service:
            assert isinstance(service.error, RunnerError)
            assert not isinstance(service.error, PluginError)
            assert service.error.exit_code == 1
            assert str(service.error) == (
                f"services.order_api.options.port: {port} is in use on 127.0.0.1; "
                "stop the program that listens there, or choose another port"
            )


def test_an_address_of_another_host_is_reported_with_the_remedy():
    with Service(host="192.0.2.1") as service:
        assert "services.order_api.options.host: cannot listen on '192.0.2.1'" in str(service.error)


def test_a_port_can_be_used_again_right_after_the_stop():
    with Service() as first:
        port = first.port
        with first.connect() as connection:
            connection.sendall(SECOND)
            connection.recv(1000)
            first.stop()
    with Service(port=port) as second:
        assert second.error is None
        assert second.ask("GET", "/healthz")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="this computer has no IPv6")
def test_the_service_listens_on_ipv6_too():
    with Service(host="::1") as service:
        if service.error:
            pytest.skip(f"no IPv6 loopback: {service.error}")
        assert service.context.status == f"listening on http://[::1]:{service.port}"
        with socket.create_connection(("::1", service.port), timeout=10) as connection:
            connection.sendall(SECOND.replace(b"localhost", b"[::1]"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
