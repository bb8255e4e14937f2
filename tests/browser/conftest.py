"""The fixtures of the browser tests: one Chromium for each process, and pages whose errors fail the test."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, ViewportSize, expect, sync_playwright

from tests.browser.chromium import FLAGS, WINDOW, executable
from tests.browser.page_errors import PageErrors
from tests.browser.running_shop import RunningShop
from tests.rabbit import Rabbit
from tests.reaper import Reaper

#: The variable with a folder that keeps all screenshots, for people who want to look at the pages.
VARIABLE = "FASTCOMMERCE_SCREENSHOTS"
#: Milliseconds until an element has the expected state. A page shows a change within about two seconds.
TIMEOUT = 45_000

_FOLDER = Path(__file__).parent
ColorScheme = Literal["light", "dark"]
_has_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests to two processes of pytest-xdist, each with a Chromium. One process has the running shop."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == _FOLDER:
            name = "browser with the shop" if "shop" in item.fixturenames else "browser"
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember for the fixtures that the test failed."""
    report = yield
    item.stash[_has_failed] = item.stash.get(_has_failed, False) or report.failed
    return report


@pytest.fixture(scope="package")
def browser(reaper: Reaper) -> Iterator[Browser]:
    """Provide one Chromium for the browser tests of this process.

    Chromium stops after these tests. Until then, Playwright's event loop runs in the main thread, so no other loop can.
    """
    with reaper.all_tests(), ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        expect.set_options(timeout=TIMEOUT)
        chromium = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Provide the context of all pages of this process, with one empty page.

    The empty page keeps the window open. A new window takes as much processor time as five pages.
    """
    one = new_context(browser)
    one.new_page()
    yield one
    one.close()


def new_context(browser: Browser) -> BrowserContext:
    """Return a context of English pages, in windows of the smallest size that the pages are made for."""
    size: ViewportSize = {"width": WINDOW[0], "height": WINDOW[1]}
    one = browser.new_context(viewport=size, locale="en-GB", timezone_id="UTC")
    one.set_default_timeout(TIMEOUT)
    return one


@pytest.fixture(scope="package")
def shop(reaper: Reaper, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """Provide the running system that several modules share."""
    with ExitStack() as stack:
        vhost = rabbit.make_vhost("browser")
        stack.callback(vhost.delete)
        with reaper.all_tests():
            one = RunningShop(tmp_path_factory.mktemp("browser") / "shop", vhost)
            stack.callback(one.close)
            one.start()
        yield one


@pytest.fixture
def page_errors() -> PageErrors:
    """Provide the errors of all pages of a test. A test that causes an error calls ``expect``."""
    return PageErrors()


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Page, str], Path]:
    """Provide a function that writes a page as a picture, and returns its path."""
    folder = Path(os.environ.get(VARIABLE) or tmp_path)

    def take(page: Page, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        page.screenshot(path=path, animations="disabled")
        return path

    return take


@pytest.fixture
def open_page(
    context: BrowserContext,
    page_errors: PageErrors,
    screenshot: Callable[[Page, str], Path],
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Page]]:
    """Provide a function that opens a page, and removes the cookies and the storage of earlier pages.

    Its arguments are the width and height in pixels, and the colour scheme. Errors of the pages fail the test. Failed
    tests leave a picture of each page.
    """

    def opened(width: int = WINDOW[0], height: int = WINDOW[1], scheme: ColorScheme = "light") -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        context.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
        return page

    with ExitStack() as stack:
        stack.callback(close_all, context)
        stack.enter_context(page_errors.watching(context))
        yield opened
        for number, page in enumerate(context.pages[1:], 1):
            # The browser has reported all earlier errors when it answers. A page that crashed does not answer.
            with suppress(Error):
                page.evaluate("0")
            if request.node.stash.get(_has_failed, False):
                name = re.sub(r"\W+", "-", request.node.name)[:80]
                print(f"{page.url} when the test failed: {screenshot(page, f'{name}-{number}')}")
        page_errors.check()


def close_all(context: BrowserContext) -> None:
    """Close the pages of a test, and keep the empty page."""
    for page in context.pages[1:]:
        page.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """Provide a page in a window of 1280 by 800 pixels."""
    return open_page()


@pytest.fixture
def clock_page(browser: Browser, page_errors: PageErrors) -> Iterator[Page]:
    """Provide a page whose clock the test moves. The clock belongs to a context, so the page has its own."""
    own = new_context(browser)
    try:
        with page_errors.watching(own):
            page = own.new_page()
            page.clock.install()
            yield page
            page.evaluate("0")
            page_errors.check()
    finally:
        own.close()
