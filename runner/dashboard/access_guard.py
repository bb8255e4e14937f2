"""The checks that protect the page against other web pages, other users and injected markup."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, Response, request

from runner.http import Problem

if TYPE_CHECKING:
    from runner.dashboard.web_server import DashboardSettings

#: The header of a change, with the token that only the page's own scripts can read.
CSRF_HEADER = "X-CSRF-Token"
#: The cookie with the token of a page that is open to other machines.
COOKIE = "fastcommerce_token"
#: The lifetime of the cookie: 30 days.
COOKIE_SECONDS = 30 * 24 * 3600
#: The methods that change nothing (RFC 9110, section 9.2.1).
_SAFE = ("GET", "HEAD", "OPTIONS")
#: Only files of this server are loaded, and no script or style in the markup runs (W3C Content Security Policy 3).
POLICY = "; ".join(
    [
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"),
        *("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AccessGuard:
    """The checks of every request, and the headers of every response."""

    def __init__(self, settings: DashboardSettings) -> None:
        self._token = settings.token
        #: The token that a change must present. Another web page cannot read it.
        self.csrf_token = secrets.token_urlsafe(24)

    def protect(self, app: Flask) -> None:
        """Add the checks and the headers to an application."""
        app.before_request(self._check)
        app.after_request(self._add_headers)

    def _check(self) -> Response | None:
        answer = self._check_token()
        if answer is None and request.method not in _SAFE:
            self._check_change()
        return answer

    def _check_token(self) -> Response | None:
        """Check the token of a page that is open to other machines. Raises Problem (401)."""
        if not self._token:
            return None
        if (given := request.args.get("token")) is not None and request.method == "GET" and self._is_token(given):
            # The token must not stay in the address bar, in bookmarks or in the history of the browser.
            rest = urlencode([one for one in request.args.items(multi=True) if one[0] != "token"])
            location = f"{quote(request.path)}?{rest}" if rest else quote(request.path)
            answer = Response(status=303, headers={"Location": location})
            answer.set_cookie(COOKIE, given, httponly=True, samesite="Strict", max_age=COOKIE_SECONDS)
            return answer
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if self._is_token(request.cookies.get(COOKIE, "")) or (scheme == "Bearer" and self._is_token(bearer)):
            return None
        raise Problem(
            401, f"this page needs a token; open {request.path}?token=… with the token from config.yaml",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _check_change(self) -> None:
        """Refuse a change that another web page requests. Raises Problem (403)."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Problem(403, "another web page requested this change; allowed: this page itself")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            raise Problem(403, f"Origin: {origin!r} requested this change; allowed: this page itself")
        if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), self.csrf_token.encode()):
            raise Problem(403, f"{CSRF_HEADER}: missing or from an earlier process; reload the page")

    @staticmethod
    def _add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint == "static":
            # The browser asks each time whether the file has changed, so that an update shows at once.
            response.headers["Cache-Control"] = "no-cache"
        else:
            response.headers.setdefault("Cache-Control", "no-store")
        return response
