"""The inbox: what a service made of each message, so that a second delivery of it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection, Select, and_, delete, select, tuple_

from runner.messages import Event, Message
from runner.store.event import from_bytes, to_bytes
from runner.store.insert import insert_new
from runner.store.schema import inbox
from runner.store.store import Store

#: How many old rows one transaction forgets at most, so that others wait for no long one.
PRUNED = 1000


def outcome(store: Store, service: str, message: Message) -> list[Event] | None:
    """The events of a message that was handled before; None for a new one. Raises StoreAway."""
    found = store.read(_row(service, message))
    return from_bytes(found[0].events) if found else None


def take_in(connection: Connection, service: str, message: Message, events: Sequence[Event]) -> list[Event] | None:
    """Note a message's outcome; where it was noted before, nothing is changed and the earlier events are returned."""
    row = {
        "service": service,
        "queue": message.queue,
        "message_id": message.id,
        "events": to_bytes(events),
        "done_at": int(time.time() * 1000),
    }
    if insert_new(connection, inbox, row):
        return None
    return from_bytes(connection.execute(_row(service, message)).one().events)


def prune(connection: Connection, service: str, keep: float) -> int:
    """Forget what is older than ``keep`` seconds, at most 1,000 rows; returns how many."""
    limit = int((time.time() - keep) * 1000)
    key = (inbox.c.service, inbox.c.queue, inbox.c.message_id)
    old = select(*key).where(inbox.c.service == service, inbox.c.done_at < limit).limit(PRUNED)
    return connection.execute(delete(inbox).where(tuple_(*key).in_(old))).rowcount


def _row(service: str, message: Message) -> Select[tuple[bytes]]:
    return select(inbox.c.events).where(
        and_(inbox.c.service == service, inbox.c.queue == message.queue, inbox.c.message_id == message.id)
    )
