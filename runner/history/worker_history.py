"""The part of the event history that workers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from runner.store.process_store import Store


class WorkerHistory:
    """A worker's access to the event history, for looking up orders and for storing the service's order statuses.

    Each method contains its own imports, because most services call at most one method.
    """

    def __init__(self, statuses: Mapping[str, str] | None) -> None:
        """``statuses`` contains the order status after each event type."""
        self._statuses = statuses or {}

    def order(self, store: Store, order_id: str) -> dict[str, Any] | None:
        """Return the order's history as in ``order history --json``, or None if no event of the order is recorded.

        Raises StoreUnreachable and StoreError.
        """
        from runner.history.order_history import as_json, read_history
        from runner.history.reader import statement_of

        found = read_history(lambda sql, parameters: store.read(statement_of(sql, parameters)), order_id)
        return None if found is None else as_json(found)

    def store_statuses(self, connection: Connection) -> None:
        """Replace the stored order statuses with the statuses from this service's configuration."""
        from runner.history.recording import set_statuses

        set_statuses(connection, self._statuses)
