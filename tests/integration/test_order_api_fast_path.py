"""Plain orders, which need no thread. They get the same answers as in the Flask application, and none is lost."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from runner import BrokerBlocked, Unroutable
from runner.amqp.publisher import WINDOW
from runner.http import MAX_THREADS, DirectRequest, http_server, log_writer
from runner.http import direct_routes as direct
from runner.http.direct_routes import MAX_BYTES, MAX_UNANSWERED, DirectRoutes
from runner.http.waitress_adapter import Acceptor
from tests.integration.test_order_api_http import BODY, SECOND, Service, post, read_all
from tests.machine import in_time
from tests.rabbit import wait_until

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
KEY = b"Idempotency-Key: one\r\n"


def raw(headers: bytes = LENGTH, body: bytes = BODY, line: bytes = b"POST /orders HTTP/1.1") -> Any:
    return post(headers, body).replace(b"POST /orders HTTP/1.1", line, 1)


def sized(body: bytes, headers: bytes = KEY) -> Any:
    return raw(headers + b"Content-Length: %d\r\n" % len(body), body)


def changed(old: bytes, new: bytes) -> Any:
    return raw(KEY + LENGTH).replace(old, new, 1)


REQUESTS = {
    "plain": raw(KEY + LENGTH),
    "without a key": raw(),
    "key of the longest": raw(b"Idempotency-Key: " + b"k" * 255 + b"\r\n" + LENGTH),
    "key too long": raw(b"Idempotency-Key: " + b"k" * 256 + b"\r\n" + LENGTH),
    "two keys": raw(KEY + KEY + LENGTH),
    "empty key": raw(b"Idempotency-Key:\r\n" + LENGTH),
    "query": raw(KEY + LENGTH, line=b"POST /orders?a=1 HTTP/1.1"),
    "escaped path": raw(KEY + LENGTH, line=b"POST /%6frders HTTP/1.1"),
    "absolute": raw(KEY + LENGTH, line=b"POST http://localhost/orders HTTP/1.1"),
    "two slashes": raw(KEY + LENGTH, line=b"POST //orders HTTP/1.1"),
    "another path": raw(KEY + LENGTH, line=b"POST /order HTTP/1.1"),
    "HTTP/1.0": raw(KEY + LENGTH, line=b"POST /orders HTTP/1.0"),
    "HTTP/1.0 kept": raw(KEY + LENGTH + b"Connection: keep-alive\r\n", line=b"POST /orders HTTP/1.0"),
    "to be closed": raw(KEY + LENGTH + b"Connection: close\r\n"),
    "to be kept": raw(KEY + LENGTH + b"Connection: Keep-Alive\r\n"),
    "PUT": raw(KEY + LENGTH, line=b"PUT /orders HTTP/1.1"),
    "own port": changed(b"Host: localhost", b"Host: LOCALHOST:99999"),
    "foreign host": changed(b"Host: localhost", b"Host: evil.example"),
    "no host": changed(b"Host: localhost\r\n", b""),
    "two hosts": changed(b"Host: localhost", b"Host: localhost\r\nHost: localhost"),
    "charset": changed(b"application/json", b"application/json; charset=utf-8"),
    "kind in capitals": changed(b"application/json", b"Application/JSON"),
    "another kind": changed(b"application/json", b"text/plain"),
    "no kind": changed(b"Content-Type: application/json\r\n", b""),
    "encoded": raw(KEY + LENGTH + b"Content-Encoding: gzip\r\n"),
    "identity": raw(KEY + LENGTH + b"Content-Encoding: identity\r\n"),
    "no length": raw(KEY, b""),
    "no body": raw(KEY + b"Content-Length: 0\r\n", b""),
    "cut": sized(BODY[:-1]),
    "spaces": sized(BODY + b" " * (MAX_BYTES - len(BODY))),
    "more spaces": sized(BODY + b" " * MAX_BYTES),
    "not UTF-8": sized(b"\xff" + BODY),
    "a list": sized(b"[" + BODY + b"]"),
    "twice the same": sized(BODY[:-1] + b',"amount":1}'),
    "unknown field": sized(BODY[:-1] + b',"colour":"red"}'),
    "region": sized(BODY[:-1] + b',"region":"emea"}'),
    "no region": sized(BODY[:-1] + b',"region":null}'),
    "no such region": sized(BODY[:-1] + b',"region":"a.b"}'),
    "number": sized(BODY.replace(b'"149.99"', b"149.990")),
    "NaN": sized(BODY.replace(b'"149.99"', b"NaN")),
    "byte order mark": sized(b"\xef\xbb\xbf" + BODY),
    "escaped address": sized(BODY.replace(b"alice", b"\\u0061lice")),
    "encoded domain": sized(BODY.replace(b"example.com", b"xn--e1afmkfd.xn--90ais")),
    "address": sized(BODY.replace(b"alice@example.com", "Юля@пример.бел".encode())),
    "no address": sized(BODY.replace(b"alice@example.com", b"alice")),
    "no such currency": sized(BODY.replace(b"USD", b"XAU")),
    "currency": sized(BODY.replace(b"USD", b"eur")),
}


def first_answer(service: Any, request: bytes) -> bytes:
    """Return the answer without its date, and without the ids of an order without a key."""
    with service.connect() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = re.sub(rb"Date: [^\r]+", b"Date", read_all(connection))
    return answer if b"-Key" in request else re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"id", answer)


def recorded(service: Any, caplog: Any) -> tuple[list[Any], list[str]]:
    """Return published events and log lines without their varying parts. The log may order them differently."""
    bodies = [{**event.body, "order_id": ""} for event, _ in service.context.published]
    wait_until(lambda: sum(" accepted: " in record.getMessage() for record in caplog.records) == len(bodies))
    lines = sorted(re.sub("order [0-9a-f-]+", "order", record.getMessage()) for record in caplog.records)
    service.context.published.clear()
    caplog.clear()
    return bodies, lines


@pytest.fixture
def plain_service() -> Iterator[Any]:
    with Service() as service:
        yield service


@pytest.fixture(params=[True, False], ids=["direct", "threads"])
def service(request) -> Iterator[Any]:
    with Service(direct=request.param, threads=64) as service:
        yield service


def test_every_request_gets_the_answer_that_the_application_gives(plain_service, monkeypatch, caplog):
    caplog.set_level("INFO")
    taken: list[Any] = []
    accept = DirectRoutes._accept

    def count(*given: Any) -> None:
        taken.append(given)
        accept(*given)

    monkeypatch.setattr(DirectRoutes, "_accept", count)
    fast = {name: first_answer(plain_service, request) for name, request in REQUESTS.items()}
    recorded_fast = recorded(plain_service, caplog)
    monkeypatch.setattr(DirectRoutes, "take", lambda *_: False)
    assert fast == {name: first_answer(plain_service, request) for name, request in REQUESTS.items()}
    assert recorded_fast == recorded(plain_service, caplog)
    assert len(taken) > 8


def hold(service: Any, count: int, stack: contextlib.ExitStack) -> list[Any]:
    """Post ``count`` orders, each on its own connection, and leave all of them unconfirmed."""
    service.context.hold = True
    connections = [stack.enter_context(service.connect()) for _ in range(count)]
    for connection in connections:
        connection.sendall(raw())
    for _ in connections:
        assert service.context.asked.acquire(timeout=10)
    return connections


def read_answer(connection: Any) -> tuple[bytes, bytes]:
    """Read an answer, and return its head and body."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if end and length is not None and len(body) >= int(length[1]):
            return head, body
        chunk = connection.recv(65536)
        assert chunk, f"closed after {received!r}"
        received += chunk


def test_orders_wait_for_their_confirms_without_a_thread():
    with Service(threads=1) as service, contextlib.ExitStack() as stack:
        connections = hold(service, 40, stack)
        assert service.ask("GET", "/openapi.json")[0] == 200
        for _, future in reversed(service.context.published):
            future.set_result(None)
        ids = set()
        for connection in connections:
            head, body = read_answer(connection)
            assert head.startswith(b"HTTP/1.1 202 ACCEPTED\r\n")
            ids.add(json.loads(body)["order_id"])
        assert ids == {event.body["order_id"] for event, _ in service.context.published}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BrokerBlocked("a memory alarm"), "a memory alarm"),
        (Unroutable("no queue"), "no queue"),
        (CancelledError(), "the service is stopping"),
    ],
)
def test_an_order_whose_publish_fails_is_a_503_and_not_published_again(service, error, reason):
    with contextlib.ExitStack() as stack:
        connections = hold(service, 40, stack)
        started = time.monotonic()
        for _, future in service.context.published:
            future.set_exception(error)
        for connection in connections:
            head, body = read_answer(connection)
            assert head.startswith(b"HTTP/1.1 503 SERVICE UNAVAILABLE\r\n")
            assert b"Retry-After: 2" in head
            assert reason in json.loads(body)["detail"]
        assert time.monotonic() - started < in_time(1)
        assert len(service.context.published) == 40
        service.context.hold = False
        connections[0].sendall(raw())
        assert read_answer(connections[0])[0].startswith(b"HTTP/1.1 202")


def test_a_confirm_that_never_comes_is_a_503(monkeypatch):
    monkeypatch.setattr(direct, "CONFIRM_SECONDS", 0.2)
    with Service() as service, contextlib.ExitStack() as stack:
        (connection,) = hold(service, 1, stack)
        assert b"did not confirm within" in read_answer(connection)[1]
        service.context.published[0][1].set_result(None)
        service.context.hold = False
        connection.sendall(raw())
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(("error", "status"), [(BrokerBlocked("an alarm"), 503), (RuntimeError("secret"), 500)])
def test_an_error_of_publish_becomes_the_answer(service, monkeypatch, error, status):
    published = []

    def publish(event: Any) -> Any:
        published.append(event)
        raise error

    monkeypatch.setattr(service.context, "publish", publish)
    got, _, body = service.order()
    assert got == status
    assert b"secret" not in body
    assert len(published) == 1


def test_orders_over_the_limit_of_unconfirmed_orders_wait_for_a_thread(monkeypatch):
    monkeypatch.setattr(direct, "MAX_UNANSWERED", 3)
    assert MAX_UNANSWERED + MAX_THREADS < WINDOW, "no publish waits for room"
    with Service(threads=2) as service, contextlib.ExitStack() as stack:
        service.context.hold = True
        connections = [stack.enter_context(service.connect()) for _ in range(8)]
        for connection in connections:
            connection.sendall(raw())
        for _ in range(5):
            assert service.context.asked.acquire(timeout=10)
        assert not service.context.asked.acquire(timeout=0.2)
        service.context.hold = False
        for _, future in list(service.context.published):
            future.set_result(None)
        assert all(read_answer(connection)[0].startswith(b"HTTP/1.1 202") for connection in connections)


def test_pipelined_requests_are_answered_in_order(service):
    keys = [b"Idempotency-Key: %d\r\n" % number for number in range(300)]
    probe = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with service.connect() as connection:
        sender = threading.Thread(
            target=lambda: connection.sendall(b"".join(raw(key + LENGTH) + probe for key in keys))
        )
        sender.start()
        received = b""
        while received.count(b"alive") < len(keys):
            received += connection.recv(65536)
        sender.join(5)
    order = re.findall(rb'"order_id": "([^"]+)|alive', received)
    assert order[1::2] == [b""] * len(keys)
    assert [one.decode() for one in order[::2]] == [event.body["order_id"] for event, _ in service.context.published]


def test_a_client_that_starts_to_read_late_gets_all_answers(monkeypatch):
    count = 1000
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    monkeypatch.setattr(Adjustments, "socket_options", [*Adjustments.socket_options, small])
    with Service() as service, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", service.port))
        sender = threading.Thread(target=lambda: connection.sendall(raw() * count))
        sender.start()
        time.sleep(0.5)
        assert service.order()[0] == 202, "others are served meanwhile"
        assert len(service.context.published) < count, "requests of a client that does not read wait"
        started, received = time.monotonic(), b""
        while received.count(b"}\n") < count:
            received += connection.recv(65536)
        sender.join(5)
        assert time.monotonic() - started < 10
        assert received.count(b"HTTP/1.1 202") == count
        assert len(service.context.published) == count + 1


def test_a_client_that_leaves_before_its_answer_does_not_affect_other_clients(service):
    with contextlib.ExitStack() as stack:
        connections = hold(service, 10, stack)
        for connection in connections[:5]:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.2, "the loop spins"
        for _, future in service.context.published:
            future.set_result(None)
        assert all(read_answer(connection)[0].startswith(b"HTTP/1.1 202") for connection in connections[5:])
        service.context.hold = False
        assert service.order()[0] == 202


def takes_no_more(service: Any) -> bool:
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_unconfirmed_orders_are_answered_before_the_service_stops(service):
    with contextlib.ExitStack() as stack:
        connections = hold(service, 5, stack)
        service.context.stopping.set()
        wait_until(lambda: takes_no_more(service))
        for _, future in service.context.published:
            future.set_result(None)
        assert all(read_answer(connection)[0].startswith(b"HTTP/1.1 202") for connection in connections)
        service.thread.join(5)
        assert not service.thread.is_alive()


def test_unconfirmed_orders_are_refused_before_the_stop_timeout(monkeypatch):
    monkeypatch.setattr(http_server, "STOP_RESERVE", 4.8)
    with Service() as service, contextlib.ExitStack() as stack:
        connections = hold(service, 40, stack)
        service.context.stopping.set()
        for connection in connections:
            head, body = read_answer(connection)
            assert head.startswith(b"HTTP/1.1 503")
            assert "the service is stopping" in json.loads(body)["detail"]


def test_a_confirm_that_never_comes_is_a_503_while_the_service_stops_too(monkeypatch):
    monkeypatch.setattr(direct, "CONFIRM_SECONDS", 0.5)
    with Service() as service, contextlib.ExitStack() as stack:
        (connection,) = hold(service, 1, stack)
        service.context.stopping.set()
        assert b"did not confirm within" in read_answer(connection)[1]


@pytest.mark.parametrize("is_followed", [False, True])
def test_answers_announce_the_close_of_the_connection_when_the_service_stops(service, is_followed):
    with contextlib.ExitStack() as stack:
        (connection,) = hold(service, 1, stack)
        if is_followed:
            connection.sendall(raw())
        service.context.stopping.set()
        wait_until(lambda: service.context.listener.fileno() == -1)
        service.context.published[0][1].set_result(None)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in head
        assert body.count(b"\n") == 1


def test_a_connection_that_will_be_closed_uses_no_thread(monkeypatch):
    monkeypatch.setattr(Acceptor, "give", lambda *_: pytest.fail("it took a thread"))
    with Service() as service:
        answer = service.send(raw(LENGTH + b"Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 202")
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "part", [b"\\u0061lice@example.com", "ü@example.com".encode(), b"a@XN--e1afmkfd.com", b"A" * 200]
)
def test_the_loop_does_not_read_slow_parts_of_a_request(plain_service, monkeypatch, part):
    monkeypatch.setattr(direct, "decode_json", lambda _: pytest.fail("it was read"))
    with plain_service.connect() as connection:
        connection.sendall(sized(BODY.replace(b"alice@example.com", part)))
        assert read_answer(connection)


def test_an_error_while_an_order_is_read_is_logged_and_the_application_answers(plain_service, monkeypatch, caplog):
    monkeypatch.setattr(DirectRequest, "json", lambda _: 1 // 0)
    assert plain_service.order()[0] == 202
    assert "ZeroDivisionError" in caplog.text


def test_an_error_while_an_order_is_answered_is_logged_and_closes_only_its_connection(
    plain_service, monkeypatch, caplog
):
    with plain_service.connect() as connection, monkeypatch.context() as patch:
        patch.setattr(DirectRoutes, "_accept", lambda *_: 1 // 0)
        connection.sendall(raw())
        assert read_all(connection) == b""
    assert "ZeroDivisionError" in caplog.text
    assert plain_service.order()[0] == 202


@pytest.fixture
def stuck() -> Iterator[Any]:
    """Yield an event that unblocks a blocked log handler."""
    go_on, lines = threading.Event(), []

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert go_on.wait(30)
            lines.append(record.getMessage())

    log, handler = logging.getLogger("test.order_api"), Stuck()
    level = log.level
    log.addHandler(handler)
    log.setLevel("INFO")
    yield go_on, lines
    go_on.set()
    log.setLevel(level)
    log.removeHandler(handler)


def test_a_blocked_log_delays_no_client_and_loses_no_line(stuck):
    go_on, lines = stuck
    with Service() as service:
        for _ in range(20):
            assert service.order()[0] == 202
        assert service.ask("GET", "/healthz")[0] == 200
        assert not lines
        threading.Timer(0.2, go_on.set).start()
    assert len(lines) == 20


def test_a_full_log_delays_orders_but_no_probes(stuck, monkeypatch):
    monkeypatch.setattr(log_writer, "MAX_WAITING", 3)
    go_on, lines = stuck
    with Service(threads=2) as service, contextlib.ExitStack() as stack:
        for _ in range(3):
            assert service.order()[0] == 202
        connections = [stack.enter_context(service.connect()) for _ in range(6)]
        for connection in connections:
            connection.sendall(raw())
        assert service.ask("GET", "/healthz")[0] == 200
        connections[0].settimeout(0.2)
        with pytest.raises(TimeoutError):
            connections[0].recv(1)
        connections[0].settimeout(10)
        go_on.set()
        assert all(read_answer(connection)[0].startswith(b"HTTP/1.1 202") for connection in connections)
    assert len(lines) == 9


def test_an_urgent_byte_does_not_keep_the_loop_busy(service, caplog):
    with service.connect() as connection:
        connection.send(b"!", socket.MSG_OOB)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.4)
        assert time.process_time() - before < 0.2
        assert "priority" not in caplog.text
        connection.sendall(SECOND)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_nothing_for_too_long_is_disconnected(monkeypatch):
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    monkeypatch.setattr(Adjustments, "socket_options", [*Adjustments.socket_options, small])
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1)
    with Service() as service, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(raw() * 1000)
        poll = select.poll()
        # 0 asks for no readable data. The poll still reports the end of the connection
        poll.register(connection, 0)
        assert poll.poll(10_000)


@pytest.mark.parametrize(("orders", "most"), [(0, 1), (40, 11), (100, http_server.MAX_ACCEPTS)])
def test_the_more_orders_are_unconfirmed_the_more_connections_are_accepted_at_once(monkeypatch, orders, most):
    accepted: list[int] = []
    is_held, may_turn, take_turn = threading.Event(), threading.Event(), http_server.HttpServer.turn

    def turn(one: Any, seconds: float) -> None:
        is_held.set()
        assert may_turn.wait(10)
        before = len(one._acceptor.channels)
        take_turn(one, seconds)
        accepted.append(len(one._acceptor.channels) - before)

    with Service() as service, contextlib.ExitStack() as stack:
        hold(service, orders, stack)
        with monkeypatch.context() as patch:
            patch.setattr(http_server.HttpServer, "turn", turn)
            assert is_held.wait(10)
            for _ in range(64):
                stack.enter_context(service.connect())
            may_turn.set()
            wait_until(lambda: sum(accepted) == 64)
        assert max(accepted) == most


def test_a_confirm_after_the_stop_reaches_no_other_connection(monkeypatch):
    with Service() as service, contextlib.ExitStack() as stack:
        monkeypatch.setattr(http_server, "STOP_RESERVE", 100.0)
        hold(service, 1, stack)
        service.stop()
        # The closed descriptors may belong to other sockets by now.
        one, other = socket.socketpair()
        with one, other:
            service.context.published[0][1].set_result(None)
            one.settimeout(0.1)
            with pytest.raises(TimeoutError):
                one.recv(1)
