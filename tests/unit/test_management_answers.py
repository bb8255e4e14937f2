"""Any answer in place of RabbitMQ's HTTP API is read within bounds, and reported in one line."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from runner.admin import management_api as module
from runner.admin.management import Management
from runner.admin.management_api import ManagementError


class Answers:
    """A server that gives every request the same answer."""

    def __init__(self) -> None:
        self.body, self.length, self.status = b"", -1, 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """The handler that sends the answer."""

            def do_GET(self) -> None:
                """Send the answer."""
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body) if outer.length < 0 else outer.length))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    one = Answers()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "MAX_ANSWER", 10_000)


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        (b"[" + b"1," * 10_000 + b"1]", -1, "an answer of more than 10000 bytes to overview"),
        (b"{}", -1, "not an answer from RabbitMQ, KeyError 'rabbitmq_version'"),
        (b"[]", -1, "not an answer from RabbitMQ, TypeError"),
        (b"5", -1, "not an answer from RabbitMQ, TypeError"),
        (b"null", -1, "not an answer from RabbitMQ, TypeError"),
        (b'{"rabbitmq_version": "3.10.8", "exchange_types": 5}', -1, "not an answer from RabbitMQ"),
        (b"<html>", -1, "not JSON; another program uses this address"),
        (b"\xff\xfe", -1, "not JSON; another program uses this address"),
        (b'{"rabbit', 100, "enable rabbitmq_management"),
    ],
    ids=range(9),
)
def test_an_answer_that_is_not_from_rabbitmq_is_named(answers: Answers, body: bytes, length: int, said: str) -> None:
    answers.body, answers.length = body, length
    with pytest.raises(ManagementError) as caught:
        Management("amqp://127.0.0.1:1/", answers.url).live()
    assert str(caught.value).startswith(f"RabbitMQ's HTTP API at {answers.url}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_answer_up_to_the_limit_is_read_and_the_connection_is_reused(answers: Answers) -> None:
    answers.body, answers.length = b'"' + b"a" * 9_998 + b'"', -1
    api = Management("amqp://127.0.0.1:1/", answers.url)
    assert [len(api.request("GET", "overview")) for _ in range(3)] == [9_998] * 3


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [b"[" * 9000, b"[" * 4000 + b"]" * 4000, b'{"a":' * 1500, b'{"reason":' + b"[" * 5000, b'[{"a":' * 1200],
    ids=range(5),
)
def test_an_answer_that_is_nested_too_deep_is_one_line(answers: Answers, body: bytes, status: int) -> None:
    answers.body, answers.length, answers.status = body, -1, status
    try:
        with pytest.raises(ManagementError) as caught:
            Management("amqp://127.0.0.1:1/", answers.url).live()
    finally:
        answers.status = 200
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
