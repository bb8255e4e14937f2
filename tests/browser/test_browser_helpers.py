"""The helpers of the browser tests report every error of a page, and nothing else."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask, Response
from playwright.sync_api import Error, Page, expect

from runner.http import Feed, stream
from tests.browser.accessibility import find_violations
from tests.browser.chromium import WINDOW
from tests.browser.conftest import VARIABLE
from tests.browser.label_check import find_unreadable
from tests.browser.page_errors import PageErrors
from tests.rabbit import wait_until
from tests.running import ROOT
from tests.web import Web

#: The strictest policy that the product's pages use.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
STYLE = """
body { font: 13px/1.5 sans-serif; margin: 20px; background: #fff; color: #222; width: 900px }
.row { display: flex; gap: 12px }
.narrow { width: 60px; overflow: hidden; white-space: nowrap }
.ellipsis { text-overflow: ellipsis }
.scroll { width: 60px; overflow: auto; white-space: nowrap }
.readers { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.flat { height: 8px; overflow: clip }
.pile { display: grid }
.pile > * { grid-area: 1 / 1 }
.skip { position: absolute; top: -60px }
.menu { position: absolute }
.opaque { background: #fff }
.left { position: relative; left: -50px }
.wide { width: 1400px }
.below { margin-top: 2000px }
.list { height: 100px; overflow: auto }
"""
GOOD = """
<div class=row><span>orders.topic</span><span>payment.order.created</span></div>
<div class="narrow ellipsis" title="notification.order.events">notification.order.events</div>
<div class=scroll tabindex=0>notification.order.events and notification.payment.events</div>
<p>Two lines<br>of text, and <b>bold</b> text <span class=readers>for readers</span></p>
<div hidden>nothing</div><a class=skip href=#content>To the content</a>
<div class=pile><p>behind a menu</p><p class="opaque menu">Restart</p></div>
<p>This text is behind the dialog.</p>
<dialog aria-label=Question><p>Restart payment?</p><button>Restart</button></dialog>
<svg width=200 height=60><g class=node><rect width=180 height=40 fill=#eee /><text x=9 y=20>orders</text></g></svg>
"""
PILE = "<div class=pile><p>payment</p><p>orders</p></div>"
PAGE = """<!doctype html><html lang=en><title>A page</title><link rel=stylesheet href=/page.css>
<link rel=icon href="data:,">
<body><main><h1 id=content>A page</h1>{body}</main><script src=/page.js></script></body></html>"""


#: Parts of a page with one text that cannot be read, each with the beginning of its sentence.
UNREADABLE = [
    (PILE, r'"payment" overlaps "orders" by \d+ . \d+ px: main div.pile p'),
    (f"<div class=below>{PILE}</div>", r'"payment" overlaps "orders" by \d+ . \d+ px: div.below div.pile p'),
    ("<svg width=90 height=30><text y=20>payment</text><text y=20 x=9>orders</text></svg>", '"payment" overlaps'),
    ("<div class=narrow>payment.order.created</div>", r'"payment.order.created" is cut by \d+ px: main div'),
    ('<div class="narrow ellipsis" title=payment>payment.order.created</div>', '"payment.order.created" is cut by'),
    ("<svg width=40 height=30><text y=20>payment.order.created</text></svg>", '"payment.order.created" is cut by'),
    ("<svg width=40 height=30><text y=4>payment</text></svg>", '"payment" is cut by'),
    ("<div class=flat><p>payment</p></div>", '"payment" is cut by'),
    ("<div class=pile><p>payment</p><p class=opaque>&nbsp;</p></div>", '"payment" is behind main div.pile'),
    ("<svg width=90 height=30><text y=20>payment</text><circle r=20 /></svg>", '"payment" is behind main svg'),
    ("<p class=left>payment</p>", '"payment" leaves the page: main p.left'),
    ("<p class=wide>payment</p>", "the page is 1420 px wide in a window of 1280 px"),
    (
        "<svg width=90 height=40><g class=node><rect width=40 height=30 /><text y=20>payment</text></g></svg>",
        r'"payment" leaves its node by \d+ px: main svg g.node',
    ),
]  # fmt: skip
#: A passing test of a page with an error, and a failing test.
INNER = """
def test_passing(page):
    page.evaluate("console.error('disk full')")

def test_failing(page):
    page.set_content("<h1>FastCommerce</h1>")
    assert False
"""


class Site:
    """A page that a test writes, and a stream of events, on the product's HTTP server."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.body = self.script = self.address = ""
        self.app = app = Flask("site", static_folder=None)

        @app.get("/")
        def show_page() -> Response:
            return Response(PAGE.format(body=self.body), headers={"Content-Security-Policy": POLICY})

        @app.get("/page.css")
        def show_style() -> Response:
            return Response(STYLE, mimetype="text/css")

        @app.get("/page.js")
        def show_script() -> Response:
            return Response(self.script, mimetype="text/javascript")

        @app.get("/ticks")
        def show_ticks() -> Response:
            return stream(self.feed)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    one = Site()
    with Web(one.app, port=0) as web:
        one.address = f"http://127.0.0.1:{web.port}/"
        yield one


@pytest.fixture
def show(site: Site, page: Page) -> Callable[..., Page]:
    """Return a function that opens a page with this body and script."""

    def opened(body: str, script: str = "") -> Page:
        site.body, site.script = body, script
        page.goto(site.address)
        return page

    return opened


def test_a_page_shows_events_of_the_server_without_an_error(show, site: Site) -> None:
    script = """new EventSource("/ticks").addEventListener("tick", (event) => {
        document.getElementById("now").textContent = JSON.parse(event.data).now })"""
    page = show("<p id=now>…</p>", script)
    stopping = threading.Event()

    def send() -> None:
        while not stopping.wait(0.05):
            site.feed.send({"now": "12:00"}, event="tick")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        expect(page.locator("#now")).to_have_text("12:00")
    finally:
        stopping.set()
        sender.join()


@pytest.mark.parametrize(
    ("body", "script", "error"),
    [
        ("", "console.error('disk full')", "console error: disk full"),
        ("", "console.warn('old key')", "console warning: old key"),
        ("", "missing()", "uncaught: missing is not defined"),
        ("", "Promise.reject(new Error('lost'))", "uncaught: lost"),
        ("<img src=/absent.png alt=''>", "", "console error: Failed to load resource: .* 404"),
        ("<b style='color: red'>red</b>", "", "console error: .* inline style .* Content Security Policy"),
        ("", "fetch('/page.js', {method: 'POST', body: '1'})", "console error: Failed to load resource: .* 405"),
        ("", "fetch('http://127.0.0.1:1/').catch(() => 0)", "console error: .* violates .* Content Security Policy"),
    ],
)
def test_each_error_of_a_page_fails_its_test_unless_the_test_expects_it(
    show, page_errors: PageErrors, body: str, script: str, error: str
) -> None:
    page = show(body, script)
    wait_until(lambda: page.wait_for_timeout(10) or page_errors.found, 20, error)
    with pytest.raises(AssertionError, match=f"the page has errors:\n  {error}"):
        page_errors.check()
    page_errors.expect(error)


def test_an_expected_error_that_does_not_occur_is_an_error() -> None:
    errors = PageErrors()
    errors.expect("disk full")
    with pytest.raises(AssertionError, match="no error contains 'disk full'"):
        errors.check()


def test_a_failed_request_and_a_request_to_another_machine_are_errors(page: Page, page_errors: PageErrors) -> None:
    page.route("http://fonts.example/", lambda route: route.abort("connectionreset"))
    with pytest.raises(Error, match="ERR_CONNECTION_RESET"):
        page.goto("http://fonts.example/")
    page_errors.expect("request to another machine: GET http://fonts.example/")
    page_errors.expect("failed request: GET http://fonts.example/, net::ERR_CONNECTION_RESET")


def test_each_page_has_its_own_cookies_storage_size_and_colours(open_page: Callable[..., Page], site: Site) -> None:
    site.body = site.script = ""
    for scheme, width in (("dark", 1920), ("light", 1280)):
        page = open_page(width, scheme=scheme)
        page.goto(site.address)
        assert page.evaluate("document.cookie + localStorage.length") == "0"
        page.evaluate("document.cookie = 'a=b'; localStorage.setItem('a', 'b')")
        assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [
            width,
            width == 1920,
        ]


def test_axe_finds_what_is_wrong_in_a_page_with_a_strict_policy(show) -> None:
    page = show(GOOD)
    assert find_violations(page) == []
    page.evaluate("document.querySelector('p').innerHTML = '<button></button><img src=\"data:,\">'")
    found = find_violations(page)
    assert sorted(one.split(" ")[0] for one in found) == ["button-name", "image-alt"]
    assert any("<button></button>" in one for one in found)
    assert find_violations(page, "h1") == []


def test_texts_that_can_be_read_are_not_reported(show) -> None:
    page = show(GOOD)
    assert find_unreadable(page) == []
    page.evaluate("document.querySelector('dialog').showModal()")
    assert find_unreadable(page) == []
    page.evaluate("document.querySelector('dialog p').style.marginBottom = '-30px'")
    assert [one.partition(" by ")[0] for one in find_unreadable(page)] == ['"Restart payment?" overlaps "Restart"']


def test_texts_that_are_scrolled_out_of_a_list_are_not_reported(show) -> None:
    page = show(f"<div class=list tabindex=0>{'<p>order accepted</p>' * 100}</div>")
    page.evaluate("document.querySelector('.list').scrollTop = 2000")
    assert find_unreadable(page) == []


def test_a_text_that_cannot_be_read_is_reported(show) -> None:
    for body, said in UNREADABLE:
        (found,) = find_unreadable(show(body))
        assert re.match(said, found), (body, found)


def test_a_screenshot_has_the_size_of_the_window(show, screenshot: Callable[[Page, str], Path], tmp_path: Path) -> None:
    path = screenshot(show(GOOD), "good")
    assert path == tmp_path / "good.png"
    # The size is in the first chunk (PNG specification, section 11.2.1).
    assert struct.unpack(">II", path.read_bytes()[16:24]) == WINDOW


def test_errors_of_a_page_fail_a_test_and_a_failed_test_leaves_a_screenshot(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(INNER)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p",
         "tests.conftest", "-p", "tests.browser.conftest", str(tmp_path / "test_inner.py")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(tmp_path / "shots")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert " 1 failed, 1 passed, 1 error in " in done.stdout, done.stdout
    assert "the page has errors:\nE         console error: disk full" in done.stdout
    assert [path.name for path in (tmp_path / "shots").iterdir()] == ["test_failing-1.png"]
