"""Accept orders while the broker is unreachable: each is committed with its event, which is published afterwards."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from typing import TYPE_CHECKING

from runner import Context, Event, StoreAway
from runner.http import Problem

from .order import Order, identity
from .problems import INVALID_ORDER, STORE_UNAVAILABLE, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

#: A little over the 5 s after which the outbox gives a commit up.
WAIT_SECONDS = 6.0


@cache
def orders() -> Table:
    """Return the table ``orders``: accepted orders, whose events may still wait in the outbox."""
    # Imported here because only an API with an outbox needs SQLAlchemy.
    from sqlalchemy import BigInteger, Column, MetaData, Table, Text

    return Table(
        "orders",
        MetaData(),
        Column("order_id", Text, primary_key=True),
        Column("idempotency_key", Text, unique=True),
        #: SHA-256 of the order, to tell a repeated request from another one with the same key.
        Column("fingerprint", Text, nullable=False),
        #: Milliseconds since the epoch.
        Column("accepted_at", BigInteger, nullable=False),
    )


class OrderOutbox:
    """The table of orders, and the events that wait."""

    def __init__(self, context: Context) -> None:
        """Start to publish what waits. Raises StoreAway and StoreError."""
        self._outbox = context.outbox

    def waiting(self) -> int:
        """Return how many events wait. Raises Problem, a 503."""
        try:
            return self._outbox.waiting()
        except StoreAway as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None

    def accept(self, order: Order, key: str | None, event: Event) -> None:
        """Commit an order, unless it was accepted before. Raises Problem: 422 for a key of another order, or 503."""
        order_id, fingerprint = event.body["order_id"], hashlib.sha256(identity(order).encode()).hexdigest()
        row = {"order_id": order_id, "idempotency_key": key, "fingerprint": fingerprint}

        def work(connection: Connection) -> Event | None:
            from sqlalchemy import or_, select

            from runner import insert_new

            if insert_new(connection, orders(), row | {"accepted_at": int(time.time() * 1000)}):
                return event
            # The same order, maybe by this transaction itself after a commit whose answer was lost; or another's key.
            of = orders().c
            is_same = of.order_id == order_id
            found = select(of.fingerprint).where(is_same if key is None else or_(is_same, of.idempotency_key == key))
            if set(connection.scalars(found)) != {fingerprint}:
                text = "Idempotency-Key: was used for another order; send a new key with a new order"
                raise Problem(422, text, type=INVALID_ORDER)
            return None

        try:
            self._outbox.transact(work).result(WAIT_SECONDS)
        except StoreAway as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None
        except TimeoutError:
            raise unavailable(f"the database did not commit within {WAIT_SECONDS:g} s", STORE_UNAVAILABLE) from None
