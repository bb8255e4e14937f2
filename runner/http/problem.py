"""Error responses with problem details (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"
#: The maximum number of invalid fields in a response. A body can contain thousands of invalid fields.
MAX_WRONG_FIELDS = 50
#: The maximum number of characters in a value that a response repeats to the client.
MAX_ECHO = 200


class Problem(Exception):
    """An error for a request that the server refuses. The client gets a response with the reason."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        type: str = "about:blank",
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        """``type`` is the URI of the problem's description. ``errors`` is a machine-readable list of errors."""
        super().__init__(detail)
        self.status, self.detail, self.type = HTTPStatus(status), detail, type
        self.headers = dict(headers or {})
        self.errors = errors or []

    def body(self) -> bytes:
        """Return the problem as JSON in ASCII, because lone surrogates from a client cannot be encoded as UTF-8."""
        members: dict[str, Any] = {
            "type": self.type,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.errors:
            members["errors"] = self.errors
        return json.dumps(members).encode()

    def all_headers(self) -> dict[str, str]:
        """Return the headers of the response, including the headers that every refusal has."""
        return {"Cache-Control": "no-store", **self.headers, "Content-Type": CONTENT_TYPE}

    def report(self, log: logging.Logger, method: str, path: str) -> None:
        """Log the refusal. A server error (5xx) is logged as a warning."""
        level = logging.INFO if self.status.value < 500 else logging.WARNING
        log.log(level, "%s %r refused with %s: %s", method, path, self.status.value, self.detail)


def invalid(error: ValidationError, noun: str, allowed: Iterable[str], type: str = "about:blank") -> Problem:
    """Return a 422 that names each invalid field in a ``noun``, such as "order", and the allowed values.

    ``allowed`` contains the names of the allowed fields.
    """
    article = "an" if noun[0] in "aeiou" else "a"
    errors = []
    for one in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in one["loc"])
        entry: dict[str, Any] = {"field": field[:MAX_ECHO], "message": one["msg"]}
        if one["type"] == "missing":
            entry["message"] = "is required"
        elif one["type"] == "extra_forbidden":
            entry["message"] = f"is not a field of {article} {noun}; allowed: {', '.join(allowed)}"
        if one["type"] != "missing" and _is_short(one["input"]):
            value = one["input"]
            entry["value"] = str(value) if isinstance(value, Decimal) else value
        errors.append(entry)
    named = ", ".join(repr(entry["field"])[1:-1] for entry in errors[:MAX_WRONG_FIELDS])
    more = f" and {len(errors) - MAX_WRONG_FIELDS} more" if len(errors) > MAX_WRONG_FIELDS else ""
    return Problem(422, f"the {noun} is not valid: {named}{more}", type=type, errors=errors[:MAX_WRONG_FIELDS])


def _is_short(value: Any) -> bool:
    scalar = value is None or isinstance(value, str | int | Decimal)
    return scalar and len(str(value)) <= MAX_ECHO
