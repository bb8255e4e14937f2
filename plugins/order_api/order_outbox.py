"""The order API's outbox, for accepting orders even while the broker is unreachable.

Each order is committed together with its event, which is published afterwards.
"""

from __future__ import annotations

import hashlib
import time
from functools import cache
from typing import TYPE_CHECKING

from runner import Context, Event, StoreUnreachable
from runner.http import Problem

from .order import Order, identity
from .problems import INVALID_ORDER, STORE_UNAVAILABLE, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

#: Seconds to wait for a commit, slightly longer than the 5 s after which the outbox gives up.
WAIT_SECONDS = 6.0


@cache
def orders() -> Table:
    """Return the ``orders`` table, which contains all accepted orders, even if their events are still in the outbox."""
    # Imported here, because only an API with an outbox needs SQLAlchemy.
    from sqlalchemy import BigInteger, Column, MetaData, Table, Text

    return Table(
        "orders",
        MetaData(),
        Column("order_id", Text, primary_key=True),
        Column("idempotency_key", Text, unique=True),
        #: The order's SHA-256 hash, which distinguishes a repeated request from another order with the same key.
        Column("fingerprint", Text, nullable=False),
        #: Milliseconds since the epoch.
        Column("accepted_at", BigInteger, nullable=False),
    )


class OrderOutbox:
    """Accepted orders and their waiting events."""

    def __init__(self, context: Context) -> None:
        """Start publishing the waiting events. Raises StoreUnreachable or StoreError."""
        self._outbox = context.outbox

    def waiting(self) -> int:
        """Return the number of waiting events. Raises a Problem with status 503 if the database is unreachable."""
        try:
            return self._outbox.waiting()
        except StoreUnreachable as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None

    def accept(self, order: Order, key: str | None, event: Event) -> None:
        """Commit an order, unless the order was already accepted.

        Raises a Problem with status 422 if the key belongs to another order, or 503 if the database is unreachable.
        """
        order_id, fingerprint = event.body["order_id"], hashlib.sha256(identity(order).encode()).hexdigest()
        row = {"order_id": order_id, "idempotency_key": key, "fingerprint": fingerprint}

        def work(connection: Connection) -> Event | None:
            from sqlalchemy import or_, select

            from runner import insert_new

            if insert_new(connection, orders(), row | {"accepted_at": int(time.time() * 1000)}):
                return event
            # A row with the same id or key already exists. The row may come from an earlier run of this transaction
            # whose result was lost.
            of = orders().c
            is_same = of.order_id == order_id
            found = select(of.fingerprint).where(is_same if key is None else or_(is_same, of.idempotency_key == key))
            if set(connection.scalars(found)) != {fingerprint}:
                text = "Idempotency-Key: already used for another order; send a new key with a new order"
                raise Problem(422, text, type=INVALID_ORDER)
            return None

        try:
            self._outbox.transact(work).result(WAIT_SECONDS)
        except StoreUnreachable as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None
        except TimeoutError:
            raise unavailable(f"the database did not commit within {WAIT_SECONDS:g} s", STORE_UNAVAILABLE) from None
