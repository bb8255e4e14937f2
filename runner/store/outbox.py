"""The outbox: events that are committed with what they tell of, and published afterwards."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, or_, select, update

from runner.messages import Event
from runner.store.event_bytes import from_bytes, to_bytes
from runner.store.insert import insert_new
from runner.store.process_store import Store
from runner.store.schema import leases, outbox

#: How many old rows one transaction forgets at most.
PRUNED = 1000


@dataclass(frozen=True)
class WaitingEvent:
    """An event that is not known to be with the broker yet."""

    number: int
    event: Event


def put(connection: Connection, service: str, event: Event) -> None:
    """Have an event published once the transaction is committed; its id is what makes it the same event again."""
    row = {"service": service, "event_id": event.id, "event": to_bytes([event]), "created_at": _now()}
    insert_new(connection, outbox, row)


def waiting(store: Store, service: str, after: int, limit: int) -> list[WaitingEvent]:
    """The first events after a number that wait, in the order in which they came. Raises StoreAway."""
    rows = store.read(
        select(outbox.c.number, outbox.c.event)
        .where(outbox.c.service == service, outbox.c.sent_at.is_(None), outbox.c.number > after)
        .order_by(outbox.c.number)
        .limit(limit)
    )
    return [WaitingEvent(row.number, from_bytes(row.event)[0]) for row in rows]


def count_waiting(store: Store, service: str) -> int:
    """How many events wait. Raises StoreAway."""
    found = select(func.count()).select_from(outbox).where(outbox.c.service == service, outbox.c.sent_at.is_(None))
    return int(store.read(found)[0][0])


def mark_sent(connection: Connection, numbers: Collection[int]) -> None:
    """The broker has confirmed these."""
    connection.execute(update(outbox).where(outbox.c.number.in_(numbers)).values(sent_at=_now()))


def prune(connection: Connection, service: str, keep: float) -> int:
    """Forget what was sent more than ``keep`` seconds ago, at most 1,000 rows; returns how many."""
    limit = _now() - int(keep * 1000)
    old = select(outbox.c.number).where(outbox.c.service == service, outbox.c.sent_at < limit).limit(PRUNED)
    return connection.execute(delete(outbox).where(outbox.c.number.in_(old))).rowcount


def lease(connection: Connection, name: str, holder: str, seconds: float) -> bool:
    """Take or renew what only one may hold, for so long; False where another one has it."""
    now = _now()
    row = {"name": name, "holder": holder, "until": now + int(seconds * 1000)}
    if insert_new(connection, leases, row):
        return True
    is_free = or_(leases.c.holder == holder, leases.c.until < now)
    taken = connection.execute(update(leases).where(leases.c.name == name, is_free).values(row))
    return taken.rowcount == 1


def release(connection: Connection, name: str, holder: str) -> None:
    """Give back what ``lease`` gave."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def _now() -> int:
    return int(time.time() * 1000)
