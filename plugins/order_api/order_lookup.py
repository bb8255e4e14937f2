"""The history of an order, from the event history."""

from __future__ import annotations

import re
import threading
from typing import Any

from runner import Context, StoreError
from runner.http import Problem

from .problems import AUDIT_OFF, STORE_UNAVAILABLE, unavailable

#: One thread of this many may look orders up, and a request waits this many seconds for its turn.
SHARE, PATIENCE = 4, 1.0
OFF = (
    "audit is off, so that nothing is known of orders here; turn it on: a queue audit.events bound to the exchanges in "
    "topology.yaml, and in config.yaml the service audit: {consumes: [audit.events]}; see docs/audit.md"
)
#: What the id of an order may look like; other text is not even asked for, because not every database takes it.
ORDER_ID = re.compile(r"[!-~]{1,64}")


class OrderLookup:
    """Looks orders up, and leaves most threads of the server to requests that place orders."""

    def __init__(self, context: Context, threads: int) -> None:
        """``threads`` is the number of requests that the server answers at once."""
        self._context = context
        # A database that hangs says nothing for long, and would take one thread after the other with it.
        self._places = threading.BoundedSemaphore(max(1, threads // SHARE))

    def show(self, order_id: str) -> dict[str, Any]:
        """Return id, status and history. Raises Problem: 404, 501 without audit, or 503 without the database."""
        if not self._context.has_history:
            raise Problem(501, OFF, type=AUDIT_OFF)
        found = self._found(order_id) if ORDER_ID.fullmatch(order_id) else None
        if found is None:
            raise Problem(404, "no such order is known here; one that was accepted just now is known a moment later")
        return {name: found[name] for name in ("order_id", "status", "history")}

    def _found(self, order_id: str) -> dict[str, Any] | None:
        if not self._places.acquire(timeout=PATIENCE):
            raise unavailable("too many orders are looked up at once", STORE_UNAVAILABLE, "; try again")
        try:
            return self._context.order_history(order_id)
        except StoreError as error:
            raise unavailable(str(error), STORE_UNAVAILABLE, "; try again") from None
        finally:
            self._places.release()
