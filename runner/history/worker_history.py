"""The event history as a worker uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from runner.store.process_store import Store


class WorkerHistory:
    """Looks orders up for a service, and stores the statuses of orders for a service that records events.

    Each method imports what it needs, because most services call one of them or none.
    """

    def __init__(self, statuses: Mapping[str, str] | None) -> None:
        """``statuses`` has the status of an order after an event, by the type of the event."""
        self._statuses = statuses or {}

    def order(self, store: Store, order_id: str) -> dict[str, Any] | None:
        """Return what ``order show --json`` prints of an order; None if it has none of its events.

        Raises StoreAway, and StoreError.
        """
        from runner.history.order_history import as_json, journey
        from runner.history.reader import statement_of

        found = journey(lambda sql, parameters: store.read(statement_of(sql, parameters)), order_id)
        return None if found is None else as_json(found)

    def store_statuses(self, connection: Connection) -> None:
        """Replace the stored statuses by those of this service's configuration."""
        from runner.history.recording import set_statuses

        set_statuses(connection, self._statuses)
