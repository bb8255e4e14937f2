"""What became of an order, as the service audit wrote it down."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner import Context, StoreAway

from .problem import Problem

if TYPE_CHECKING:
    from runner.store.store import Store

#: The plugin without which nobody writes it down.
AUDIT = "audit"
#: Seconds after which a database that is away is worth another request.
RETRY_AFTER_SECONDS = 2

_OFF = (
    "audit is off, so that nothing is known of orders here; turn it on: a queue audit.events bound to the exchanges in "
    "topology.yaml, and in config.yaml the line trace: audit.events and the service audit: {consumes: [audit.events]}; "
    "see docs/audit.md"
)
#: What the id of an order may look like; other text is not even asked for, because not every database takes it.
_ORDER_ID = re.compile(r"[!-~]{1,64}")


def history(context: Context, order_id: str) -> dict[str, Any]:
    """The order's id, its status, and its history. Raises Problem: 404, 501 without audit, 503 without a database."""
    if AUDIT not in context.plugins:
        raise Problem(501, _OFF, response="AuditOff")
    # Imported here because most requests do not need it.
    from runner.store.journey import as_json, journey

    try:
        found = journey(_reader(context.store), order_id) if _ORDER_ID.fullmatch(order_id) else None
    except StoreAway as error:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise Problem(503, f"{error}; try again", headers=headers, response="StoreUnavailable") from None
    if found is None:
        raise Problem(404, "no such order is known here; one that was accepted just now is known a moment later")
    story = as_json(found)
    return {name: story[name] for name in ("order_id", "status", "history")}


def _reader(store: Store) -> Any:
    from runner.store.reading import statement_of

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return store.read(statement_of(sql, parameters))

    return read
