"""A request's head is read as by waitress, in any chunks."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from runner.http.waitress_adapter import StrictParser
from tests.running import ROOT

ADJUSTMENTS = Adjustments(listen="127.0.0.1:0", max_request_header_size=16_384)
#: Attributes that waitress sets for its own tests, and those that only the strict parser has.
OWN = {"adj", "first_line", "body_rcv", "started", "answer", "failure"}


def read(parser: Any, raw: bytes) -> dict[str, Any]:
    """Return all data of a request."""
    body = b""
    rest = raw
    while rest and not parser.completed:
        rest = rest[parser.received(rest) :]
    if parser.body_rcv is not None:
        body = parser.body_rcv.getbuf().get()
    names = {name for name in (*vars(HTTPRequestParser), *vars(parser)) if not name.startswith("__")} - OWN
    found = {name: getattr(parser, name, None) for name in names if not callable(getattr(parser, name, None))}
    error = parser.error
    return {**found, "error": error and (error.code, error.body), "body": body, "rest": rest}


def assert_same(raw: bytes) -> None:
    assert read(StrictParser(ADJUSTMENTS), raw) == read(HTTPRequestParser(ADJUSTMENTS), raw)


methods = st.sampled_from([b"POST", b"GET", b"DELETE", b"post", b"M-SEARCH"])
paths = st.one_of(
    st.sampled_from(
        [
            b"/orders",
            b"/",
            b"//orders",
            b"/a/../b",
            b"/orders?x=1",
            b"/%6frders",
            b"/a#b",
            b"*",
            b"http://h/orders",
            b"/;a",
        ]
    ),
    st.text("abz019/._~-%?#:@[]", max_size=10).map(lambda text: b"/" + text.encode()),
)
versions = st.sampled_from([b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"", b" HTTP/1.1 "])
names = st.one_of(
    st.sampled_from([b"Host", b"Content-Type", b"Connection", b"connection", b"X_Y", b"X-Y", b"Expect"]),
    st.text("abzAZ09-_ !:.", max_size=6).map(str.encode),
)
values = st.one_of(
    st.sampled_from([b"localhost", b"close", b"keep-alive", b"100-continue", b"", b"a\tb", b"a  b "]),
    st.binary(max_size=8),
    st.text("az09 :,;=\t", max_size=12).map(str.encode),
)
lines = st.builds(
    lambda name, space, value: name + b":" + space + value, names, st.sampled_from([b" ", b"", b"\t "]), values
)
lengths = st.sampled_from(
    [b"Content-Length: 4", b"content-length:4", b"Content-Length: 04", b"Content-Length: a", b"X: 1"]
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])


@st.composite
def requests(draw: Any) -> bytes:
    head = [draw(methods) + b" " + draw(paths) + draw(versions), *draw(st.lists(lines, max_size=4)), draw(lengths)]
    return b"".join(line + draw(ends) for line in head) + b"\r\nbodyGET / HTTP/1.1\r\n\r\n"


def is_refused_as_unclear(raw: bytes) -> bool:
    """Return True if the strict parser refuses a head that waitress accepts; see ``test_order_api_http.py``."""
    head = raw.lower().partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].strip() for line in head.split(b"\r\n")[1:]]
    is_folded = any(line.startswith((b" ", b"\t")) for line in head.split(b"\r\n")[1:])
    return is_folded or names.count(b"content-length") > 1 or b"transfer-encoding" in names


@settings(max_examples=1500, deadline=None)
@given(requests())
def test_any_head_is_read_as_by_waitress(raw: bytes) -> None:
    if not is_refused_as_unclear(raw):
        assert_same(raw)


@settings(max_examples=300, deadline=None)
@given(st.integers(min_value=1, max_value=200))
def test_a_head_in_pieces_is_read_the_same(size: int) -> None:
    raw = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nbody"
    parser, whole = StrictParser(ADJUSTMENTS), StrictParser(ADJUSTMENTS)
    rest = b""
    for start in range(0, len(raw), size):
        rest += raw[start : start + size]
        while rest:
            rest = rest[parser.received(rest) :]
    assert parser.completed
    assert parser.headers == read(whole, raw)["headers"]
    assert parser.body_rcv.getbuf().get() == b"body"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /orders HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nContent-Length: 000000000000004\r\n\r\nbody",
        b"POST /orders HTTP/1.1\r\nX-Name: caf\xc3\xa9\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nX-Name: a\x00b\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nX-Name: a\x85\r\n\r\n",
        b"POST /orders HTTP/1.1\r\n\r\n",
        b"\r\n\r\nPOST /orders HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_unusual_heads_are_read_as_by_waitress(head: bytes) -> None:
    assert_same(head)


def test_only_the_adapter_imports_waitress_whose_version_is_bounded() -> None:
    files = [path for room in ("runner", "plugins") for path in (ROOT / room).rglob("*.py")]
    importers = [
        path.name for path in files if re.search(r"^\s*(from|import) waitress", path.read_text(), re.MULTILINE)
    ]
    assert importers == ["waitress_adapter.py"]
    assert '"waitress>=3.0.2,<3.1"' in (ROOT / "pyproject.toml").read_text()
