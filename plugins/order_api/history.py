"""What became of an order, as the service audit wrote it down."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner import Context
from runner.errors import StoreError

from .problem import Problem

if TYPE_CHECKING:
    from runner.history.records import Read
    from runner.store.process_store import Store

#: The plugin without which nobody writes it down.
AUDIT = "audit"
#: Seconds after which a database that is away is worth another request.
RETRY_AFTER_SECONDS = 2
#: One thread in so many may look orders up, and a request waits so many seconds for its turn.
SHARE = 4
PATIENCE = 1.0

_OFF = (
    "audit is off, so that nothing is known of orders here; turn it on: a queue audit.events bound to the exchanges in "
    "topology.yaml, and in config.yaml the line trace: audit.events and the service audit: {consumes: [audit.events]}; "
    "see docs/audit.md"
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
        if AUDIT not in self._context.plugins:
            raise Problem(501, _OFF, response="AuditOff")
        if not _ORDER_ID.fullmatch(order_id):
            raise _unknown()
        if not self._places.acquire(timeout=PATIENCE):
            raise _unavailable("too many orders are looked up at once")
        try:
            return self._found(order_id)
        except StoreError as error:
            raise _unavailable(str(error)) from None
        finally:
            self._places.release()

    def _found(self, order_id: str) -> dict[str, Any]:
        # Imported here because most requests do not need it.
        from runner.history.order_history import as_json, journey

        found = journey(_reader(self._context.store), order_id)
        if found is None:
            raise _unknown()
        story = as_json(found)
        return {name: story[name] for name in ("order_id", "status", "history")}


def _unknown() -> Problem:
    return Problem(404, "no such order is known here; one that was accepted just now is known a moment later")


def _unavailable(reason: str) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Problem(503, f"{reason}; try again", headers=headers, response="StoreUnavailable")


def _reader(store: Store) -> Read:
    from runner.history.reader import statement_of

    def read(sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return store.read(statement_of(sql, parameters))

    return read
