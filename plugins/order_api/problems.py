"""The error responses of the order API. ``openapi.json`` describes each response."""

from __future__ import annotations

from runner.http import Problem

INVALID_ORDER, AUDIT_OFF, BROKER_UNAVAILABLE, STORE_UNAVAILABLE = (
    f"/openapi.json#/components/responses/{name}"
    for name in ("InvalidOrder", "AuditOff", "BrokerUnavailable", "StoreUnavailable")
)
#: Advice for the client. After a lost confirm, the broker may have the event, so a repetition is safe only with a key.
TRY_AGAIN = "; try again, with the same Idempotency-Key if the request had one"


def unavailable(reason: str, type: str = BROKER_UNAVAILABLE, advice: str = TRY_AGAIN) -> Problem:
    """Return a 503 response that reports an unreachable broker or database."""
    return Problem(503, f"{reason}{advice}", type=type, headers={"Retry-After": "2"})
