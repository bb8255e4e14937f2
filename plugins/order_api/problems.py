"""The API's own kinds of refusals; ``openapi.json`` describes each."""

from __future__ import annotations

from runner.http import Problem

INVALID_ORDER, AUDIT_OFF, BROKER_UNAVAILABLE, STORE_UNAVAILABLE = (
    f"/openapi.json#/components/responses/{name}"
    for name in ("InvalidOrder", "AuditOff", "BrokerUnavailable", "StoreUnavailable")
)
#: After a lost confirm the broker may have the order all the same: only the key makes another try safe.
TRY_AGAIN = "; try again, with the same Idempotency-Key if the order had one"


def unavailable(reason: str, type: str = BROKER_UNAVAILABLE, advice: str = TRY_AGAIN) -> Problem:
    """Return a 503: the broker or the database is unreachable for now."""
    return Problem(503, f"{reason}{advice}", type=type, headers={"Retry-After": "2"})
