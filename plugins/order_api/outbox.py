"""Take orders while the broker is away: each is committed with its event, which is published afterwards."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from runner import Context, Event, StoreAway
from runner.http import Problem

from .order import Order, identity
from .problems import INVALID_ORDER, STORE_UNAVAILABLE, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Seconds that a commit may take, and that a request waits for it, a little longer.
COMMIT_SECONDS, WAIT_SECONDS = 5.0, 6.0


class KeyReused(Exception):
    """The same Idempotency-Key came with another order."""


class Outbox:
    """The order API's table of orders and the events that wait."""

    def __init__(self, context: Context) -> None:
        """Raises StoreAway and StoreError."""
        # Imported here because only an API with an outbox needs them.
        from runner.store.relay import Relay

        self._context, self._store = context, context.store
        self._relay = Relay(self._store, context.service, context.publish, context.broker_problem, context.log)

    def start(self) -> None:
        """Begin to publish what waits."""
        self._relay.start()

    def stop(self, timeout: float) -> None:
        """Finish what is on its way; what waits is published by the next process."""
        self._relay.stop(timeout)

    def waiting(self) -> int:
        """How many events wait. Raises a 503 problem."""
        from runner.store.outbox import count_waiting

        try:
            return count_waiting(self._store, self._context.service)
        except StoreAway as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None

    def take(self, order: Order, order_id: str, key: str | None, event: Event) -> None:
        """Commit an order, unless it was taken before. Raises a 422 problem for a key of another order, or a 503."""
        fingerprint = hashlib.sha256(identity(order).encode()).hexdigest()
        service, routed = self._context.service, self._context.routed(event)

        def work(connection: Connection) -> None:
            from sqlalchemy import or_, select

            from runner.store.insert import insert_new
            from runner.store.outbox import put
            from runner.store.schema import orders

            row = {
                "order_id": order_id,
                "idempotency_key": key,
                "fingerprint": fingerprint,
                "accepted_at": int(time.time() * 1000),
            }
            if insert_new(connection, orders, row):
                put(connection, service, routed)
                return
            # The same order, maybe by this transaction itself after a commit whose answer was lost; or another's key.
            is_same = orders.c.order_id == order_id
            found = select(orders.c.fingerprint).where(
                is_same if key is None else or_(is_same, orders.c.idempotency_key == key)
            )
            if set(connection.scalars(found)) != {fingerprint}:
                raise KeyReused

        try:
            self._store.commit(work, COMMIT_SECONDS).result(WAIT_SECONDS)
        except KeyReused:
            text = "Idempotency-Key: was used for another order; send a new key with a new order"
            raise Problem(422, text, type=INVALID_ORDER) from None
        except StoreAway as error:
            raise unavailable(str(error), STORE_UNAVAILABLE) from None
        except TimeoutError:
            raise unavailable(f"the database did not commit within {WAIT_SECONDS:g} s", STORE_UNAVAILABLE) from None
        self._relay.wake()
