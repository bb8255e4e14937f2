"""The refusals of the order API. ``openapi.json`` describes each refusal."""

from __future__ import annotations

from runner.http import Problem

INVALID_ORDER, AUDIT_OFF, BROKER_UNAVAILABLE, STORE_UNAVAILABLE = (
    f"/openapi.json#/components/responses/{name}"
    for name in ("InvalidOrder", "AuditOff", "BrokerUnavailable", "StoreUnavailable")
)
#: Advice for the client. After a lost confirm the broker may have the order, so only a key makes a repetition safe.
TRY_AGAIN = "; try again, with the same Idempotency-Key if the order had one"


def unavailable(reason: str, type: str = BROKER_UNAVAILABLE, advice: str = TRY_AGAIN) -> Problem:
    """Return a 503, because the broker or the database is unreachable."""
    return Problem(503, f"{reason}{advice}", type=type, headers={"Retry-After": "2"})
