"""How the API refuses: problem details of RFC 9457."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"
#: A body of 64 KiB can hold thousands of wrong fields; this many are named.
MAX_FAULTS = 50
#: Longer values are not repeated to the caller.
MAX_ECHO = 200
RETRY_AFTER_SECONDS = 2
#: After a lost confirm the broker may have the order all the same: only the key makes another try safe.
TRY_AGAIN = "try again, with the same Idempotency-Key if the order had one"

RESPONSES = "/openapi.json#/components/responses/"
TYPES = {
    HTTPStatus.UNPROCESSABLE_ENTITY: f"{RESPONSES}InvalidOrder",
    HTTPStatus.SERVICE_UNAVAILABLE: f"{RESPONSES}BrokerUnavailable",
}


class Problem(Exception):
    """A request that is not done, and the answer that says why."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
        response: str | None = None,
    ) -> None:
        """``response`` names the description in openapi.py, where the status alone does not say which."""
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors or []
        self.type = f"{RESPONSES}{response}" if response else TYPES.get(self.status, "about:blank")

    def body(self) -> bytes:
        """The problem as JSON; ASCII only, since a caller's lone surrogates have no UTF-8."""
        members: dict[str, Any] = {
            "type": self.type,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.errors:
            members["errors"] = self.errors
        return json.dumps(members).encode()


def unavailable(reason: str, advice: str = TRY_AGAIN) -> Problem:
    """A 503: what is needed is away for now."""
    detail = f"{reason}; {advice}" if advice else reason
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def store_unavailable(reason: str) -> Problem:
    """A 503: the database is away for now."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Problem(503, f"{reason}; {TRY_AGAIN}", headers=headers, response="StoreUnavailable")


def invalid_order(error: ValidationError, allowed: list[str]) -> Problem:
    """Name each field that is wrong, and what it may be."""
    errors = []
    for fault in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in fault["loc"])
        entry: dict[str, Any] = {"field": field[:MAX_ECHO], "message": fault["msg"]}
        if fault["type"] == "missing":
            entry["message"] = "is required"
        elif fault["type"] == "extra_forbidden":
            entry["message"] = f"is not a field of an order; allowed: {', '.join(allowed)}"
        if fault["type"] != "missing" and _is_short(fault["input"]):
            value = fault["input"]
            entry["value"] = str(value) if isinstance(value, Decimal) else value
        errors.append(entry)
    named = ", ".join(repr(entry["field"])[1:-1] for entry in errors[:MAX_FAULTS])
    more = f" and {len(errors) - MAX_FAULTS} more" if len(errors) > MAX_FAULTS else ""
    return Problem(422, f"the order is not valid: {named}{more}", errors=errors[:MAX_FAULTS])


def _is_short(value: Any) -> bool:
    scalar = value is None or isinstance(value, str | int | Decimal)
    return scalar and len(str(value)) <= MAX_ECHO
