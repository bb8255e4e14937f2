"""The errors of a page: lines on its console, failed requests, and requests to other machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

#: The hosts that a page of the product may use.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: A request that the page itself ended, for example a stream when the page is left (Chromium: net_error_list.h).
ABORTED = "net::ERR_ABORTED"


class PageErrors:
    """All errors of the pages of a test. A test names the errors that it causes."""

    def __init__(self) -> None:
        #: The errors until now, each as one line.
        self.found: list[str] = []
        self._expected: list[str] = []
        self._allowed: list[str] = []

    @contextmanager
    def watching(self, context: BrowserContext) -> Iterator[None]:
        """Collect the errors of all pages of a context."""
        listeners: dict[Any, Callable[[Any], None]] = {
            "console": self._on_console, "weberror": self._on_error, "request": self._on_request,
            "requestfailed": self._on_failure,
        }  # fmt: skip
        for event, listener in listeners.items():
            context.on(event, listener)
        try:
            yield
        finally:
            for event, listener in listeners.items():
                context.remove_listener(event, listener)

    def expect(self, pattern: str) -> None:
        """Require an error that contains ``pattern``, and accept every such error."""
        self._expected.append(pattern)

    def allow(self, pattern: str) -> None:
        """Accept errors that contain ``pattern``, which a test causes only at some speeds."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Raise AssertionError with all errors that no pattern matches, and all patterns without an error."""
        known = [*self._expected, *self._allowed]
        unexpected = [one for one in self.found if not any(re.search(pattern, one) for pattern in known)]
        absent = [pattern for pattern in self._expected if not any(re.search(pattern, one) for one in self.found)]
        words = [*unexpected, *(f"no error contains {pattern!r}" for pattern in absent)]
        assert not words, "the page has errors:\n" + "\n".join(f"  {one}" for one in words)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            place = message.location.get("url", "")
            self.found.append(f"console {message.type}: {message.text} ({place})")

    def _on_error(self, error: WebError) -> None:
        self.found.append(f"uncaught: {error.error.message}")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("about", "blob", "data") and address.hostname not in LOOPBACK:
            self.found.append(f"request to another machine: {request.method} {request.url}")

    def _on_failure(self, request: Request) -> None:
        if request.failure != ABORTED:
            self.found.append(f"failed request: {request.method} {request.url}, {request.failure}")
