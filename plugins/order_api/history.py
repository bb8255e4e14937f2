"""What became of an order, as the service audit wrote it down."""

from __future__ import annotations

import re
import threading
from typing import Any

from runner import Context, StoreError
from runner.http import Problem

from .problems import AUDIT_OFF, STORE_UNAVAILABLE, unavailable

#: One thread in so many may look orders up, and a request waits so many seconds for its turn.
SHARE = 4
PATIENCE = 1.0

_OFF = (
    "audit is off, so that nothing is known of orders here; turn it on: a queue audit.events bound to the exchanges in "
    "topology.yaml, and in config.yaml the service audit: {consumes: [audit.events]}; see docs/audit.md"
)
#: What the id of an order may look like; other text is not even asked for, because not every database takes it.
_ORDER_ID = re.compile(r"[!-~]{1,64}")


class Histories:
    """Looks orders up, and leaves most threads of the server to those who place some."""

    def __init__(self, context: Context, threads: int) -> None:
        """``threads`` is how many requests the server has in hand at once."""
        self._context = context
        # A database that hangs says nothing for long, and would take one thread after the other with it.
        self._places = threading.BoundedSemaphore(max(1, threads // SHARE))

    def show(self, order_id: str) -> dict[str, Any]:
        """The order's id, its status, and its history. Raises Problem: 404, 501 without audit, 503 without database."""
        if not self._context.has_history:
            raise Problem(501, _OFF, type=AUDIT_OFF)
        if not _ORDER_ID.fullmatch(order_id):
            raise _unknown()
        if not self._places.acquire(timeout=PATIENCE):
            raise unavailable("too many orders are looked up at once", STORE_UNAVAILABLE, "; try again")
        try:
            return self._found(order_id)
        except StoreError as error:
            raise unavailable(str(error), STORE_UNAVAILABLE, "; try again") from None
        finally:
            self._places.release()

    def _found(self, order_id: str) -> dict[str, Any]:
        story = self._context.order_history(order_id)
        if story is None:
            raise _unknown()
        return {name: story[name] for name in ("order_id", "status", "history")}


def _unknown() -> Problem:
    return Problem(404, "no such order is known here; one that was accepted just now is known a moment later")
