"""Requests that two programs could understand in two ways are refused, and the bytes after them are not read.

The cases are those of RFC 9112, section 11, and of waitress's advisories:

- CVE-2019-16785: line ends.
- CVE-2019-16786 and CVE-2019-16789: Transfer-Encoding with odd values and spaces.
- CVE-2019-16792: Content-Length twice.
- CVE-2020-5236: headers that take long to read.
- CVE-2022-24761: numbers, and extensions of chunks.
- CVE-2024-49768: a request behind a refused request.
- CVE-2024-49769: clients that leave at once.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine import in_time
from tests.rabbit import wait_until
from tests.web import Web

SECRET = b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Seen:
    """A WSGI application that records its requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Web, Seen]]:
    seen = Seen()
    with Web(seen) as web:
        yield web, seen


@pytest.fixture
def web(served: tuple[Web, Seen]) -> Web:
    served[1].requests.clear()
    return served[0]


@pytest.fixture
def seen(served: tuple[Web, Seen]) -> Seen:
    return served[1]


def head(*lines: bytes, line: bytes = b"POST / HTTP/1.1", end: bytes = b"\r\n") -> bytes:
    return end.join([line, b"Host: localhost", *lines, b"", b""])


def refused(answer: bytes, *statuses: int) -> None:
    """Assert that the answer is a single refusal with problem details, after which the connection is closed."""
    first, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.") == 1, answer
    assert int(first.split(b" ", 2)[1]) in statuses, answer
    assert b"Connection: close" in first
    assert json.loads(body)["status"] in statuses


CHUNK = b"0\r\n\r\n"
CASES = {
    # Bytes that some programs accept as the end of a line, and others do not.
    "LF ends a header": (head(b"X: a\nTransfer-Encoding: chunked", b"Content-Length: 4") + b"body", 400),
    "LF ends every line": (head(b"Content-Length: 4", end=b"\n") + b"body\r\n\r\n", 400),
    "LF ends the first line": (b"POST / HTTP/1.1\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", 400),
    "CR ends a header": (head(b"X: a\rTransfer-Encoding: chunked", b"Content-Length: 4") + b"body", 400),
    "CR in a value": (head(b"X: a\rb"), 400),
    "CR before the line end": (head(b"X: a\r"), 400),
    "CR in the first line": (head(line=b"POST /\r HTTP/1.1"), 400),
    "LF in a value": (head(b"Content-Length: 4\n"), 400),
    "NUL in a value": (head(b"X: a\0b"), 400),
    "NUL in a name": (head(b"Content-Length\0: 4"), 400),
    # Folded headers, and spaces in forbidden places.
    "a folded header": (head(b"X: a", b" Content-Length: 4"), 400),
    "a header folded by a tab": (head(b"X: a", b"\tTransfer-Encoding: chunked"), 400),
    "a folded first header": (b"POST / HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    "a folded coding": (head(b"Transfer-Encoding:", b" chunked"), 400),
    "a folded length": (head(b"Content-Length:", b" 4"), 400),
    "a space before the colon of the length": (head(b"Content-Length : 4"), 400),
    "a tab before the colon of the length": (head(b"Content-Length\t: 4"), 400),
    "a space before the colon of the coding": (head(b"Transfer-Encoding : chunked") + CHUNK, 411),
    "a space before the colon of the host": (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
    "a space before a name": (b"GET / HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n", 400),
    "a header without a colon": (head(b"Content-Length 4"), 400),
    "a header without a name": (head(b": 4"), 400),
    # Lengths.
    "a length twice": (head(b"Content-Length: 4", b"Content-Length: 4") + b"body", 400),
    "two lengths": (head(b"Content-Length: 4", b"Content-Length: 40") + b"body", 400),
    "two lengths in one line": (head(b"Content-Length: 4, 4") + b"body", 400),
    "two spellings of a length": (head(b"Content-Length: 4", b"content-length: 4") + b"body", 400),
    "a length with a plus": (head(b"Content-Length: +4") + b"body", 400),
    "a length with a minus": (head(b"Content-Length: -4") + b"body", 400),
    "a length with an underscore": (head(b"Content-Length: 1_0") + b"body", 400),
    "a length in hexadecimal": (head(b"Content-Length: 0x4") + b"body", 400),
    "a length with a fraction": (head(b"Content-Length: 4.0") + b"body", 400),
    "a length of other digits": (head("Content-Length: ٤".encode()) + b"body", 400),
    "a length with a vertical tab": (head(b"Content-Length: \x0b4") + b"body", 400),
    "a length with a no-break space": (head(b"Content-Length: 4\xa0") + b"body", 400),
    "an empty length": (head(b"Content-Length:") + b"body", 400),
    # Length and transfer coding.
    "a length before a coding": (head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + CHUNK, 400),
    "a coding before a length": (head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + CHUNK, 400),
    "a length and an unknown coding": (head(b"Content-Length: 4", b"Transfer-Encoding: x") + b"body", 400),
    "a length and an empty coding": (head(b"Content-Length: 4", b"Transfer-Encoding:") + b"body", 400),
    "two codings": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + CHUNK, 400),
    "two different codings": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + CHUNK, 400),
    # Transfer codings in any spelling, none of which this server supports.
    "chunked": (head(b"Transfer-Encoding: chunked") + CHUNK, 411),
    "chunked in capitals": (head(b"TRANSFER-ENCODING: CHUNKED") + CHUNK, 411),
    "chunked twice": (head(b"Transfer-Encoding: chunked, chunked") + CHUNK, 411),
    "chunked before another one": (head(b"Transfer-Encoding: chunked, gzip") + CHUNK, 411),
    "chunked behind another one": (head(b"Transfer-Encoding: gzip, chunked") + CHUNK, 411),
    "chunked with a vertical tab": (head(b"Transfer-Encoding: \x0bchunked") + CHUNK, 411),
    "chunked with a next line": (head(b"Transfer-Encoding: \x85chunked") + CHUNK, 411),
    "chunked with quotes": (head(b'Transfer-Encoding: "chunked"') + CHUNK, 411),
    "chunked with a parameter": (head(b"Transfer-Encoding: chunked;a=b") + CHUNK, 411),
    "identity": (head(b"Transfer-Encoding: identity") + b"body", 411),
    "xchunked": (head(b"Transfer-Encoding: xchunked") + CHUNK, 411),
    "an empty coding": (head(b"Transfer-Encoding:") + CHUNK, 411),
    "chunked by HTTP/1.0": (head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + CHUNK, 411),
    "chunked of an old version": (head(b"Transfer-Encoding: chunked", line=b"POST /") + CHUNK, 411),
    # Ambiguous chunks, none of which this server reads.
    "a size with a plus": (head(b"Transfer-Encoding: chunked") + b"+4\r\nbody\r\n0\r\n\r\n", 411),
    "a size with 0x": (head(b"Transfer-Encoding: chunked") + b"0x4\r\nbody\r\n0\r\n\r\n", 411),
    "a size with an underscore": (head(b"Transfer-Encoding: chunked") + b"1_0\r\nbody\r\n0\r\n\r\n", 411),
    "a size that is none": (head(b"Transfer-Encoding: chunked") + b"x\r\nbody\r\n0\r\n\r\n", 411),
    "a size of many digits": (head(b"Transfer-Encoding: chunked") + b"f" * 40 + b"\r\nbody\r\n0\r\n\r\n", 411),
    "an extension with a line end": (head(b"Transfer-Encoding: chunked") + b"4;a\nb\r\nbody\r\n0\r\n\r\n", 411),
    "a chunk that does not end": (head(b"Transfer-Encoding: chunked") + b"4\r\nbodyX\r\n0\r\n\r\n", 411),
    "chunks that end by LF": (head(b"Transfer-Encoding: chunked") + b"4\nbody\n0\n\n", 411),
    "a trailer with a length": (head(b"Transfer-Encoding: chunked") + b"0\r\nContent-Length: 9\r\n\r\n", 411),
    # Request lines.
    "no version that there is": (head(line=b"POST / HTTP/11"), 400),
    "two spaces": (head(line=b"POST  / HTTP/1.1"), 400),
    "a tab": (head(line=b"POST\t/\tHTTP/1.1"), 400),
    "a space in the target": (head(line=b"POST /a b HTTP/1.1"), 400),
    "a method with a colon": (head(line=b"POST: / HTTP/1.1"), 400),
    "two hosts": (head(b"Host: secret.example"), 400),
    "two hosts in one line": (b"GET / HTTP/1.1\r\nHost: localhost, secret.example\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\nX: a\r\n\r\n", 400),
}
#: Names of requests that the server refuses without closing the connection, because their end is clear.
HOSTS = {"two hosts", "two hosts in one line", "no host"}


@pytest.mark.parametrize("name", sorted(set(CASES) - HOSTS))
def test_an_ambiguous_request_is_refused_and_the_bytes_after_it_are_not_read(web: Web, seen: Seen, name: str) -> None:
    raw, status = CASES[name]
    refused(web.send(raw + SECRET), status)
    assert not seen.requests


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_a_request_for_two_hosts_or_none_does_not_reach_the_application(web: Web, seen: Seen, name: str) -> None:
    raw, status = CASES[name]
    answer = web.send(raw)
    assert answer.startswith(b"HTTP/1.1 %d" % status)
    assert not seen.requests


@pytest.mark.parametrize("name", ["two lengths", "chunked", "a folded header", "LF ends a header", "two spaces"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_refused_request_is_also_refused_in_pieces(web: Web, seen: Seen, name: str, size: int) -> None:
    raw, status = CASES[name]
    raw += SECRET * 3
    # Bytes that are sent after the answer reset the connection, possibly before the client has read the answer.
    if answer := web.send(*(raw[start : start + size] for start in range(0, len(raw), size))):
        refused(answer, status)
    assert not seen.requests


@pytest.mark.parametrize("fill", [8191, 8192, 8193])
def test_a_request_behind_a_refused_request_is_never_read(web: Web, seen: Seen, fill: int) -> None:
    # waitress reads 8192 bytes at once. The next read gets the rest while the first bytes are being refused.
    bad = head(b"Content-Length: 4", b"Content-Length: 5")
    filled = bad[:-2] + b"X: " + b"a" * (fill - len(bad) - 5) + b"\r\n\r\n"
    assert len(filled) == fill
    if answer := web.send(filled, SECRET * 50):
        refused(answer, 400)
    assert not seen.requests


def test_pipelined_requests_are_separated(web: Web, seen: Seen) -> None:
    body = b"GET /secret HTTP/1.1\r\n\r\n"
    answer = web.send((head(b"Content-Length: %d" % len(body)) + body) * 3 + head(line=b"GET /last HTTP/1.1"))
    assert answer.count(b"200 OK") == 4
    assert seen.requests == [("POST", "/", body)] * 3 + [("GET", "/last", b"")]


@pytest.mark.parametrize(
    "line",
    [
        b"Bad: \x00" + b"x" * 10_000,
        b"Bad: " + b"\t " * 5000 + b"\x10",
        b"Bad" + b" " * 10_000 + b": a",
        b"Bad: " + b"a " * 5000 + b"\x7f",
        b"Bad: " + b" " * 10_000 + b"\x01",
        b"Bad" * 4000,
    ],
)
def test_every_bad_header_is_refused_quickly(web: Web, line: bytes) -> None:
    began = time.monotonic()
    refused(web.send(head(line)), 400)
    assert time.monotonic() - began < in_time(1)


def test_clients_that_leave_at_once_leave_nothing_behind(web: Web) -> None:
    for sent in (b"", b"GET / HT", head(b"Content-Length: 4"), SECRET * 20) * 5:
        connection = web.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(sent)
        connection.close()
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.25, "the loop spins"
    wait_until(lambda: web.ask("GET", "/")[0] == 200)
