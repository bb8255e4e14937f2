"""Server-sent events. The loop writes them for a limited number of clients and needs no thread for any of them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, request
from waitress.adjustments import Adjustments

from runner.errors import PluginError
from runner.http import Feed, Problem, http_server, stream, streams
from runner.http.streams import MAX_STREAMS, MAX_WAITING, frame
from tests.machine import in_time
from tests.rabbit import wait_until
from tests.web import Web

ASK = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def make(feed: Feed) -> Flask:
    app = Flask("web", static_folder=None)

    @app.get("/events")
    def events() -> Any:
        return stream(feed)

    @app.get("/")
    def page() -> str:
        return "<p>a page</p>"

    @app.get("/large")
    def large() -> bytes:
        return b"x" * 3_000_000

    @app.get("/late")
    def late() -> Any:
        wait_until(request.environ["waitress.client_disconnected"])
        return stream(feed)

    @app.get("/bad")
    def bad() -> str:
        raise Problem(409, "it is bad", errors=[{"field": "a"}])

    @app.get("/bug")
    def bug() -> str:
        raise RuntimeError("secret")

    return app


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def web(feed: Feed) -> Iterator[Web]:
    with Web(make(feed), threads=1) as one:
        yield one


class Client:
    """A client of a stream that reads only when it is asked to."""

    def __init__(self, web: Web, receive: int = 0, ask: bytes = ASK) -> None:
        self.connection = socket.socket()
        if receive:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.connection.settimeout(10)
        self.connection.connect(("127.0.0.1", web.port))
        self.connection.sendall(ask)
        self.received = b""

    def until(self, text: bytes) -> bytes:
        """Read until a text has arrived. Return everything that was read."""
        while text not in self.received:
            chunk = self.connection.recv(65536)
            assert chunk, f"closed after {self.received[-500:]!r}"
            self.received += chunk
        return self.received

    def opened(self) -> Client:
        self.until(b"retry: ")
        return self

    def is_closed(self) -> bool:
        with contextlib.suppress(ConnectionError):
            while chunk := self.connection.recv(65536):
                self.received += chunk
        return True

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def data_of(received: bytes) -> list[bytes]:
    return re.findall(rb"^data: (.*)$", received, re.MULTILINE)


def test_each_subscriber_gets_each_event_in_order(web: Web, feed: Feed) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(web)).opened() for _ in range(5)]
        for number in range(50):
            feed.send(str(number))
        feed.send({"done": "é"}, event="end", id="51")
        for client in clients:
            received = client.until(b"event: end\nid: 51\ndata: " + '{"done":"é"}'.encode() + b"\n\n")
            assert data_of(received)[:50] == [b"%d" % number for number in range(50)]


def test_a_stream_has_the_head_that_browsers_and_proxies_need(web: Web) -> None:
    with Client(web) as client:
        head, _, rest = client.until(b"retry: 2000\n\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        lines = set(head.split(b"\r\n"))
        assert b"Content-Type: text/event-stream; charset=utf-8" in lines
        assert {b"Cache-Control: no-store", b"Connection: close", b"X-Accel-Buffering: no"} < lines
        assert b"Transfer-Encoding" not in head
        assert b"Content-Length" not in head
        assert rest == b"retry: 2000\n\n"


def test_streams_need_no_thread(web: Web, feed: Feed) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(web)).opened() for _ in range(20)]
        assert web.ask("GET", "/")[2] == b"<p>a page</p>"
        feed.send("now")
        assert all(client.until(b"data: now\n\n") for client in clients)


def test_streams_over_the_limit_get_a_503_until_a_stream_ends(web: Web, feed: Feed) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(web)).opened() for _ in range(MAX_STREAMS)]
        status, headers, body = web.ask("GET", "/events")
        assert status == 503
        assert headers["Content-Type"] == "application/problem+json"
        assert int(headers["Retry-After"]) > 0
        assert "64 open streams" in json.loads(body)["detail"]
        assert web.ask("GET", "/")[0] == 200, "other requests are answered"
        clients.pop().connection.close()
        late = wait_until(lambda: try_again(web, stack))
        feed.send("still")
        assert all(client.until(b"data: still\n\n") for client in [*clients, late])


def try_again(web: Web, stack: contextlib.ExitStack) -> Client | None:
    client = stack.enter_context(Client(web))
    return client if client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200") else None


def test_a_client_that_does_not_read_loses_events_and_gets_their_number(
    web: Web, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    monkeypatch.setattr(Adjustments, "socket_options", [*Adjustments.socket_options, small])
    with Client(web, 4096) as slow, Client(web) as quick:
        slow.opened()
        quick.opened()
        text = "x" * 1000
        for number in range(400):
            feed.send(f"{number} {text}")
            quick.until(b"data: %d " % number)
        assert web.ask("GET", "/")[0] == 200
        slow.connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            slow.until(b"never")
        slow.connection.settimeout(10)
        feed.send("the last")
        received = slow.until(b"data: the last\n\n")
        lost = sum(map(int, re.findall(rb"event: lost\ndata: (\d+)\n\n", received)))
        got = [int(number) for number in re.findall(rb"^data: (\d+) x{1000}\n\n", received, re.MULTILINE)]
        assert len(got) + lost == 400, "each event arrived whole or was counted"
        assert lost > 100
        assert got == sorted(set(got))
        assert b"event: lost" not in quick.received


def test_events_that_a_busy_loop_drops_are_counted_too(web: Web, feed: Feed) -> None:
    held, go_on = threading.Event(), threading.Event()
    turn = http_server.HttpServer.turn

    def hold(server: Any, seconds: float) -> None:
        held.set()
        assert go_on.wait(10)
        turn(server, seconds)

    with Client(web) as client, pytest.MonkeyPatch.context() as patch:
        client.opened()
        patch.setattr(http_server.HttpServer, "turn", hold)
        assert held.wait(10)
        for number in range(MAX_WAITING + 30):
            feed.send(str(number))
        go_on.set()
        feed_until(feed, client, b"data: after")
        assert sum(map(int, re.findall(rb"event: lost\ndata: (\d+)", client.received))) == 30


def has_subscribers(feed: Feed) -> bool:
    return feed._wake is not None


def feed_until(feed: Feed, client: Client, text: bytes) -> None:
    time.sleep(0.1)
    feed.send(text.decode().removeprefix("data: "))
    client.until(text)


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_client_that_leaves_frees_its_stream_at_once(web: Web, feed: Feed, is_reset: bool) -> None:
    client = Client(web).opened()
    assert has_subscribers(feed)
    if is_reset:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.connection.close()
    wait_until(lambda: not has_subscribers(feed))
    feed.send("unsubscribed")
    with Client(web) as another:
        another.opened()
        feed.send("subscribed")
        assert data_of(another.until(b"data: subscribed")) == [b"subscribed"], "it gets no earlier event"


def test_a_client_that_leaves_before_its_stream_starts_uses_no_stream(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_STREAMS", 1)
    with Web(make(feed), threads=1) as web:
        for _ in range(3):
            with Client(web, 4096, ASK.replace(b"events", b"large") + ASK.replace(b"events", b"late")) as client:
                client.until(b"200 OK")
                client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with Client(web) as another:
                another.opened()
            wait_until(lambda: not has_subscribers(feed))


def test_bytes_that_a_client_sends_during_its_stream_are_not_read_as_a_request(web: Web, feed: Feed) -> None:
    with Client(web, ask=ASK * 3) as client:
        client.opened()
        client.connection.sendall(ASK + b"x" * 100_000)
        feed.send("still here")
        assert client.until(b"data: still here\n\n").count(b"HTTP/1.1") == 1


def test_an_http_1_0_client_can_have_a_stream_too(web: Web, feed: Feed) -> None:
    with Client(web, ask=ASK.replace(b"HTTP/1.1", b"HTTP/1.0")) as client:
        assert client.opened().received.startswith(b"HTTP/1.0 200 OK")
        feed.send("old")
        client.until(b"data: old\n\n")


def test_a_silent_stream_is_kept_alive(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 2)
    monkeypatch.setattr(http_server, "HEARTBEAT_SECONDS", 1)
    with Web(make(feed)) as web, Client(web) as client:
        client.until(b"retry: 2000\n\n:\n\n:\n\n:\n\n:\n\n")
        feed.send("after")
        client.until(b"data: after\n\n")


def test_a_stream_is_closed_if_its_client_does_not_read(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1)
    small = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    monkeypatch.setattr(Adjustments, "socket_options", [*Adjustments.socket_options, small])
    with Web(make(feed)) as web, Client(web, 4096) as client:
        client.opened()
        feed.send("x" * 3_000_000)
        wait_until(lambda: not has_subscribers(feed), 15)


def test_streams_do_not_delay_the_stop(feed: Feed) -> None:
    with Web(make(feed)) as web, Client(web) as client:
        client.opened()
        began = time.monotonic()
        web.context.stopping.set()
        assert client.is_closed()
        web.thread.join(10)
        assert time.monotonic() - began < in_time(2)
        assert not has_subscribers(feed)


def test_a_client_that_reads_nothing_does_not_delay_the_stop(feed: Feed) -> None:
    web = Web(make(feed))
    web.context.stop_timeout = 60.0
    with web, Client(web, 4096) as client:
        client.opened()
        feed.send("x" * 20_000_000)
        web.context.stopping.set()
        web.thread.join(10)
        assert not web.thread.is_alive()


def test_lost_events_of_an_earlier_client_are_not_reported_to_the_next_client(feed: Feed) -> None:
    feed.connect(lambda _: None)
    for number in range(MAX_WAITING + 30):
        feed.send(number)
    feed.connect(None)
    feed.send("unsubscribed")
    feed.connect(lambda _: None)
    feed.send("first")
    assert feed.taken() == (0, [frame("first")])


def test_a_stream_is_not_closed_as_a_silent_connection(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 10)
    with Web(make(feed)) as web, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(web)).opened() for _ in range(5)]
        for _ in range(20):
            stack.enter_context(web.connect()).sendall(b"GET / HT")
            assert web.ask("GET", "/")[0] == 200
        feed.send("all")
        assert all(client.until(b"data: all\n\n") for client in clients)
        assert web.ask("GET", "/events")[0] == 503, "half of the connections are for other requests"


def test_errors_of_an_application_are_problems(web: Web, caplog: Any) -> None:
    status, headers, body = web.ask("GET", "/bad")
    assert (status, headers["Content-Type"]) == (409, "application/problem+json")
    assert json.loads(body) == {
        "type": "about:blank", "title": "Conflict", "status": 409, "detail": "it is bad", "errors": [{"field": "a"}],
    }  # fmt: skip
    assert web.ask("GET", "/nowhere")[0] == 404
    status, _, body = web.ask("POST", "/")
    assert (status, json.loads(body)["title"]) == (405, "Method Not Allowed")
    status, _, body = web.ask("GET", "/bug")
    assert status == 500
    assert b"secret" not in body
    assert "secret" in caplog.text


def test_an_application_keeps_its_own_pages_for_errors() -> None:
    app = make(Feed())
    app.register_error_handler(404, lambda _: ("<p>no page</p>", 404))
    with Web(app) as web:
        assert web.ask("GET", "/nowhere")[2] == b"<p>no page</p>"
        assert web.ask("GET", "/bad")[0] == 409


def test_an_application_without_flask_can_raise_problems_and_have_streams() -> None:
    feed = Feed()

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/events":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return streams.StreamBody(feed)
        start_response("200 OK", [])
        raise Problem(418, "no coffee")

    with Web(app) as web, Client(web) as client:
        client.opened()
        feed.send("bare")
        client.until(b"data: bare\n\n")
        status, _, body = web.ask("GET", "/")
        assert (status, json.loads(body)["detail"]) == (418, "no coffee")
        assert web.ask("HEAD", "/")[0] == 418


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (("a",), b"data: a\n\n"),
        (("a\nb\r\nc\rd",), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (("",), b"data: \n\n"),
        (("a\x85b\u2028c",), "data: a\x85b\u2028c\n\n".encode()),
        (({"a": [1, None]},), b'data: {"a":[1,null]}\n\n'),
        ((5, "tick", "7"), b"event: tick\nid: 7\ndata: 5\n\n"),
        (("data: x\n\nevent: y",), b"data: data: x\ndata: \ndata: event: y\n\n"),
    ],
)
def test_a_browser_reads_an_event_as_it_was_sent(given: Any, sent: bytes) -> None:
    assert frame(*given) == sent


@pytest.mark.parametrize("given", [("a", "b\nc"), ("a", "b\rc"), ("a", "b", "c\nd"), ("a", "b", "c\0"), ("a", "\r\n")])
def test_a_name_or_id_of_several_lines_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="allowed: one line"):
        frame(*given)


def test_data_that_is_not_json_is_refused_at_the_call_that_sends_it(web: Web, feed: Feed) -> None:
    with Client(web) as client:
        client.opened()
        with pytest.raises(TypeError, match="cannot be written as JSON"):
            feed.send(object())
        feed.send("fine")
        client.until(b"data: fine\n\n")


def test_a_generator_can_raise_a_problem_and_send_its_body_in_parts() -> None:
    ended: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/tea":
            raise Problem(418, "no coffee")
        start_response("200 OK", [])
        try:
            yield from (b"a", b"", b"b")
        finally:
            ended.append(environ["PATH_INFO"])

    with Web(app) as web:
        status, headers, body = web.ask("GET", "/tea")
        assert (status, headers["Content-Type"]) == (418, "application/problem+json")
        assert json.loads(body)["detail"] == "no coffee"
        assert web.ask("GET", "/")[2] == b"ab"
        assert web.ask("HEAD", "/head")[0] == 200
    assert ended == ["/", "/head"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"threads": 0}, "threads: 0 is out of range; allowed: 1 to 256"),
        ({"threads": 257}, "threads: 257 is out of range; allowed: 1 to 256"),
        ({"max_body_bytes": -1}, "max_body_bytes: -1 is out of range; allowed: 0 or more"),
        ({"allowed_hosts": "shop.example"}, "allowed_hosts: not a list, 'shop.example'; allowed: a list of names"),
        ({"port": 65536}, "services.web.options.port: out of range, 65536; allowed: 0 to 65535"),
        ({"port": -1}, "services.web.options.port: out of range, -1; allowed: 0 to 65535"),
    ],
)
def test_a_wrong_setting_is_refused(given: dict[str, Any], words: str) -> None:
    web = Web(make(Feed()))
    with pytest.raises((ValueError, PluginError), match=words):
        http_server.serve(make(Feed()), web.context, **{"host": "127.0.0.1", "port": 0, **given})
