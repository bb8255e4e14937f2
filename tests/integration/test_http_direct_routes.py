"""Direct routes of a service's own server: the answers that they may give, and the requests that they get."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from runner.http import DirectReply, DirectRequest
from runner.http.waitress_adapter import MAX_BODY_IN_MEMORY, StrictChannel, adjustments
from runner.messages import Event
from tests.web import Web


def reply(request: DirectRequest) -> DirectReply:
    """Answer as the body of the request says."""
    given = {"status": "200 OK", "type": "text/plain", "headers": {}, **json.loads(request.body or b"{}")}
    event = Event("asked", {})
    return DirectReply(event, given["status"], given["type"], b"direct", given["headers"], ("asked", (), ""))


def answer(environ: Any, start_response: Any) -> list[bytes]:
    has_length = environ["PATH_INFO"] != "/parts"
    start_response("200 OK", [("Content-Length", "3")] if has_length else [])
    return [b"app"] if has_length else [b"ap", b"p"]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web(answer, direct={(method, "/"): reply for method in ("GET", "HEAD", "POST")}) as one:
        yield one


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"X-Name": "a\r\nSet-Cookie: b=1"}},
        {"headers": {"X-Name": "a\n\nHTTP/1.1 200 OK"}},
        {"headers": {"X-Name\r\nSet-Cookie": "b=1"}},
        {"headers": {"X-Name": "a\0b"}},
        {"headers": {"X-Name": "5 €"}},
        {"status": "200 OK\r\nX: y"},
        {"type": "text/plain\nX: y"},
    ],
)
def test_an_answer_with_invalid_headers_is_left_to_the_application(
    given: dict[str, Any], web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(web.context.published)
    assert web.ask("POST", "/", json.dumps(given).encode())[2] == b"app"
    assert len(web.context.published) == before, "nothing is published for it"
    assert "allowed: one line of Latin-1" in caplog.text


def test_a_plain_answer_is_sent_unchanged(web: Web) -> None:
    status, headers, body = web.ask("POST", "/", b'{"status": "201 CREATED", "headers": {"X-Name": "\\u00e9 b"}}')
    assert (status, headers["X-Name"], body) == (201, "é b", b"direct")
    assert web.ask("GET", "/")[2] == b"direct"


@pytest.mark.parametrize("path", ["/", "/other", "/parts"])
def test_the_application_answers_head_without_a_body(path: str, web: Web) -> None:
    one = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    received = web.send(one * 2)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert all(not part or part.startswith(b"HTTP/1.1 ") for part in received.split(b"\r\n\r\n"))
    assert received.endswith(b"\r\n\r\n")


def test_the_loop_does_not_read_a_long_body() -> None:
    def read() -> bytes:
        raise AssertionError("read")

    long = SimpleNamespace(
        error=None, version="1.1", request_uri="/", headers={}, command="POST", content_length=257,
        body_rcv=SimpleNamespace(getbuf=read),
    )  # fmt: skip
    channel: Any = SimpleNamespace(requests=[long])
    assert StrictChannel.asked(channel, 256) is None


@pytest.mark.parametrize("most", [0, 1000, 64 * 1024, MAX_BODY_IN_MEMORY, 10**9])
def test_a_long_body_needs_little_memory(most: int) -> None:
    with socket.socket() as sock:
        limits = adjustments(sock, 1, most, 1, 1)
    assert limits.inbuf_overflow == min(2 * most, MAX_BODY_IN_MEMORY)
    assert limits.max_request_body_size == most + 1
