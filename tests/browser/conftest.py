"""The fixtures of the browser tests: one Chromium for each process, and pages whose errors fail the test."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

from tests.browser.chromium import FLAGS, WINDOW, executable
from tests.browser.page_errors import PageErrors
from tests.reaper import Reaper

#: The variable with a folder that keeps all screenshots, for people who want to look at the pages.
VARIABLE = "FASTCOMMERCE_SCREENSHOTS"
#: Milliseconds until an element has the expected state. A page shows a change within about two seconds.
TIMEOUT = 45_000
#: The number of processes that run browser tests. Each has a Chromium of its own.
PROCESSES = 2

_FOLDER = Path(__file__).parent
_has_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each module to one of a few processes of pytest-xdist."""
    modules = {path: number for number, path in enumerate(sorted(_FOLDER.glob("test_*.py")))}
    for item in items:
        if (number := modules.get(item.path)) is not None:
            item.add_marker(pytest.mark.xdist_group(f"browser {number % PROCESSES + 1}"))


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
    browser: Browser,
    page_errors: PageErrors,
    screenshot: Callable[[Page, str], Path],
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Page]]:
    """Provide a function that opens a page in a new context, without cookies and storage.

    Its options are those of Playwright's ``new_context``, for example ``color_scheme="dark"``. Errors of the pages fail
    the test. Failed tests leave a picture of each page.
    """
    contexts: list[BrowserContext] = []

    def opened(**options: Any) -> Page:
        size = {"width": WINDOW[0], "height": WINDOW[1]}
        context = browser.new_context(**{"viewport": size, "locale": "en-GB", "timezone_id": "UTC", **options})
        context.set_default_timeout(TIMEOUT)
        page_errors.watch(context)
        contexts.append(context)
        return context.new_page()

    with ExitStack() as stack:
        stack.callback(close_all, contexts)
        yield opened
        for number, page in enumerate((page for context in contexts for page in context.pages), 1):
            # The browser has reported all earlier errors when it answers. A page that crashed does not answer.
            with suppress(Error):
                page.evaluate("0")
            if request.node.stash.get(_has_failed, False):
                name = re.sub(r"\W+", "-", request.node.name)[:80]
                print(f"{page.url} when the test failed: {screenshot(page, f'{name}-{number}')}")
        page_errors.check()


def close_all(contexts: list[BrowserContext]) -> None:
    """Close the contexts of a test."""
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """Provide a page in a window of 1280 by 800 pixels."""
    return open_page()
